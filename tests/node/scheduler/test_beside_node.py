"""A call beside the loop, seen by a node's callers: it delays nobody else, and nobody who no longer wants it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from node.engine import ModelSpec
from node.engines.fake import FakeEngine, Faults
from protos.errors import Cancelled
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import AudioRequest, Blob, Finished, ModelState, Started, Task, TaskId, TextRequest

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client

MODELS = """
[[model]]
id = "ears"
engine = "fake"
modality = "audio"
default = true
preload = true

[[model]]
id = "talk"
engine = "fake"
modality = "text"
default = true
preload = true
"""
HEARD = Task(id=TaskId("heard"), request=AudioRequest(audio=Blob(bytes(64_000))))


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


@pytest.fixture
def gate() -> threading.Event:
    """While it is closed, the call beside the loop does not end."""
    return threading.Event()


@asynccontextmanager
async def calling(start_node: StartNode, gate: threading.Event) -> AsyncIterator[tuple[Any, Any]]:
    """A client, and the events of a task whose call is under way."""

    def load(spec: ModelSpec) -> FakeEngine:
        is_ears = spec.id == "ears"
        return FakeEngine(spec, faults=Faults(gate=gate if is_ears else None), beside_threads=int(is_ears))

    async with start_node(MODELS, load=load) as client:
        try:
            events = client.events(HEARD)
            while not isinstance(await anext(events), Started):
                pass
            yield client, events
        finally:
            gate.set()  # a closed one would hold the end of the node


async def test_a_chat_is_answered_while_a_call_is_under_way(start_node: StartNode, gate: threading.Event) -> None:
    async with calling(start_node, gate) as (client, events):
        said = await client.run(Task(id=TaskId("t"), request=TextRequest(prompt="one two")))
        assert isinstance(said[-1], Finished)
        gate.set()
        *_, last = [event async for event in events]
        assert isinstance(last, Finished)
        assert last.usage.device_seconds > 0


async def test_a_caller_who_cancels_hears_before_the_call_ends(start_node: StartNode, gate: threading.Event) -> None:
    async with calling(start_node, gate) as (client, events):
        await client.stub.Cancel(pb.CancelRequest(task_id="heard"))
        with pytest.raises(Cancelled, match="was cancelled by request"):
            await anext(events)
        assert not gate.is_set()
        again = asyncio.create_task(client.run(HEARD))  # under the same id
        gate.set()
        assert isinstance((await again)[-1], Finished)


async def test_a_model_is_unloaded_when_its_call_is_back(start_node: StartNode, gate: threading.Event) -> None:
    async with calling(start_node, gate) as (client, _):
        (entry,) = [entry for entry in client.daemon.registry.entries if entry.spec.id == "ears"]
        engine = entry.engine
        await client.stub.Cancel(pb.CancelRequest(task_id="heard"))
        unload = asyncio.create_task(client.daemon.service.unload(entry.spec.id))
        said = await client.run(Task(id=TaskId("t"), request=TextRequest(prompt="one two")))
        assert isinstance(said[-1], Finished)
        assert not engine.is_closed
        assert not unload.done()
        gate.set()
        await unload
        assert engine.is_closed
        assert entry.state == ModelState.UNLOADED
