"""No more calls at once than the limit; the others wait in order, and a full wait is an error with a name."""

import asyncio
from dataclasses import replace

import pytest
from scripted import STARTED, Scripted, said
from wrapping import Gather

from protos.errors import Cancelled, Overloaded
from protos.types import Queued, Task, TaskId
from providers.wrappers import Limited, Wrapped

BOUND_S = 60.0


async def test_no_more_run_at_once_than_the_limit(gathered: Gather) -> None:
    gate = asyncio.Event()
    vendor = Scripted([Queued(0), STARTED, gate, said("done")])
    provider = Wrapped(vendor, [Limited(3)])
    running = asyncio.gather(*(gathered(provider, id=TaskId(f"t{n}")) for n in range(20)))
    async with asyncio.timeout(BOUND_S):
        while vendor.at_once < 3:  # noqa: ASYNC110  # what is scripted has no event for it
            await asyncio.sleep(0)
        gate.set()
        assert all(events[-1] == said("done") for events in await running)
    assert vendor.most_at_once == 3
    assert len(vendor.order) == 20


async def test_one_that_waits_is_told_how_many_are_ahead_and_one_too_many_is_refused(task: Task) -> None:
    gate = asyncio.Event()
    provider = Wrapped(Scripted([Queued(0), STARTED, gate, said("done")]), [Limited(1, waiting_limit=1)])
    async with asyncio.timeout(BOUND_S):
        seated = provider.run(replace(task, id=TaskId("a")))
        assert [await anext(seated), await anext(seated)] == [Queued(0), STARTED]
        waiting = provider.run(replace(task, id=TaskId("b")))
        assert await anext(waiting) == Queued(0)
        sitting_down = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        snapshot = provider.snapshot()
        assert (snapshot.offers[0].waiting, snapshot.offers[0].running, snapshot.offers[0].max_batch) == (1, 1, 1)
        with pytest.raises(Overloaded, match="1 calls wait for one of 1"):
            await anext(provider.run(replace(task, id=TaskId("c"))))
        gate.set()
        assert [event async for event in seated] == [said("done")]
        assert await sitting_down == STARTED
        assert [event async for event in waiting] == [said("done")]


async def test_a_cancel_reaches_one_that_waits_for_a_seat(task: Task) -> None:
    gate = asyncio.Event()
    vendor = Scripted([Queued(0), STARTED, gate, said("done")])
    provider = Wrapped(vendor, [Limited(1)])
    async with asyncio.timeout(BOUND_S):
        seated = provider.run(replace(task, id=TaskId("a")))
        assert [await anext(seated), await anext(seated)] == [Queued(0), STARTED]
        waiting = provider.run(replace(task, id=TaskId("b")))
        assert await anext(waiting) == Queued(0)
        sitting_down = asyncio.ensure_future(anext(waiting))
        await asyncio.sleep(0)
        await provider.cancel(TaskId("b"))
        with pytest.raises(Cancelled) as caught:
            await sitting_down
        assert not caught.value.may_have_run
        assert vendor.order == ["a"]
        gate.set()
        assert [event async for event in seated] == [said("done")]


async def test_a_failed_call_gives_its_seat_back(gathered: Gather) -> None:
    provider = Wrapped(Scripted([Queued(0), Overloaded("later")], provider_id="full"), [Limited(1)])
    for _ in range(3):
        with pytest.raises(Overloaded, match="later"):
            await gathered(provider)
    assert provider.snapshot().offers[0].running == 0


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Limited(0)
