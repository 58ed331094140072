"""A slow embedding gets a second call, and the first to end wins; nothing else is ever asked twice."""

import asyncio

import pytest
from scripted import STARTED, Scripted, said
from wrapping import Gather

from protos.errors import NodeUnavailable
from protos.types import EmbeddingRequest, Finished, Queued, Started
from providers.wrappers import Hedged, Wrapped

REQUEST = EmbeddingRequest(texts=("a",))


async def test_a_slow_one_is_overtaken_and_ended(gathered: Gather) -> None:
    vendor = Scripted([Queued(0), STARTED, asyncio.Event()], [Queued(0), STARTED, said("second")])
    events = await gathered(Wrapped(vendor, [Hedged(after_s=0.01)]), request=REQUEST)
    assert [type(event) for event in events] == [Queued, Started, Finished]
    assert events[-1] == said("second")
    assert (len(vendor.order), vendor.closed, vendor.at_once) == (2, ["task-1"], 0)


async def test_a_fast_one_is_asked_once(gathered: Gather) -> None:
    vendor = Scripted([Queued(0), STARTED, said("first")])
    events = await gathered(Wrapped(vendor, [Hedged()]), request=REQUEST)
    assert events[-1] == said("first")
    assert len(vendor.order) == 1


async def test_a_failure_before_the_hedge_stands(gathered: Gather) -> None:
    vendor = Scripted([Queued(0), STARTED, NodeUnavailable("down")])
    with pytest.raises(NodeUnavailable, match="down"):
        await gathered(Wrapped(vendor, [Hedged()]), request=REQUEST)
    assert len(vendor.order) == 1


async def test_text_is_never_asked_twice(gathered: Gather) -> None:
    gate = asyncio.Event()
    vendor = Scripted([Queued(0), STARTED, gate, said("first")])
    running = asyncio.ensure_future(gathered(Wrapped(vendor, [Hedged(after_s=0.0)])))
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    assert (await running)[-1] == said("first")
    assert len(vendor.order) == 1
