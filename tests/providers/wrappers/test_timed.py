"""A silent vendor is left, with a word of whether it may be paid. No time passes but what the test gives."""

import asyncio

import pytest
from scripted import STARTED, Scripted, said
from wrapping import Gather

from protos.errors import DeadlineExceeded, NodeUnavailable
from protos.types import Finished, Modality, Queued, Task, TextDelta
from providers.wrappers import Timed, Wrapped
from providers.wrappers.timed import TimeLimits

SOON = 0.01


async def test_one_that_does_not_begin_to_answer_is_left(gathered: Gather) -> None:
    vendor = Scripted([Queued(0), STARTED, asyncio.Event()])
    provider = Wrapped(vendor, [Timed(TimeLimits(head_s=dict.fromkeys(Modality, SOON)))])
    with pytest.raises(NodeUnavailable, match=r"was silent for 0\.01 s") as caught:
        await gathered(provider)
    assert caught.value.may_have_run
    assert vendor.closed == ["task-1"]


async def test_one_that_falls_silent_is_left(gathered: Gather) -> None:
    provider = Wrapped(
        Scripted([Queued(0), STARTED, TextDelta("a"), asyncio.Event()]),
        [Timed(TimeLimits(head_s=dict.fromkeys(Modality, SOON), idle_s=SOON))],
    )
    with pytest.raises(NodeUnavailable, match=r"was silent for 0\.01 s"):
        await gathered(provider)


async def test_a_task_s_own_timeout_ends_it(gathered: Gather) -> None:
    provider = Wrapped(Scripted([Queued(0), STARTED, asyncio.Event()]), [Timed()])
    with pytest.raises(DeadlineExceeded, match=r"longer than its timeout_s of 0\.01") as caught:
        await gathered(provider, timeout_s=SOON)
    assert caught.value.may_have_run


async def test_a_reader_that_takes_its_time_is_not_the_vendor_s_silence(task: Task) -> None:
    provider = Wrapped(
        Scripted([Queued(0), STARTED, TextDelta("a"), said("a")]),
        [Timed(TimeLimits(head_s=dict.fromkeys(Modality, 5.0), idle_s=5.0))],
    )
    events = []
    async for event in provider.run(task):
        events.append(event)
        for _ in range(100):
            await asyncio.sleep(0)
    assert isinstance(events[-1], Finished)
