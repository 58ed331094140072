"""Calls that share a stream, where the node's side of it is a script."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from protos.errors import NodeUnavailable, Overloaded
from protos.fabric.node.v1 import node_pb2 as pb
from providers import many
from providers.many import Stream


class Node:
    """Stands where the stub does. `told` is what it says, `asked` what it hears."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[pb.Told | None] = asyncio.Queue()
        self.asked: asyncio.Queue[pb.Calls] = asyncio.Queue()
        self._hearing: asyncio.Task[None] | None = None

    def ExecuteMany(self, asked: AsyncIterator[pb.Calls], metadata: Any) -> "Node":  # noqa: N802, ARG002
        self._hearing = asyncio.create_task(self._hear(asked))
        return self

    async def _hear(self, asked: AsyncIterator[pb.Calls]) -> None:
        async for calls in asked:
            self.asked.put_nowait(calls)

    async def __aiter__(self) -> AsyncIterator[pb.Told]:
        while (told := await self.told.get()) is not None:
            yield told

    def cancel(self) -> None:
        self.told.put_nowait(None)
        if self._hearing is not None:
            self._hearing.cancel()

    def says(self, number: int, *texts: str, ended: bool = False) -> None:
        events = [pb.TaskEvent(output=pb.Output(text=text)) for text in texts]
        self.told.put_nowait(pb.Told(calls=[pb.CallTold(number=number, events=events, ended=ended)]))


async def collected(stream: Stream, id_: str) -> str:
    return "".join([event.output.text async for event in stream.run(pb.Task(id=id_))])


async def test_calls_that_begin_together_are_one_message() -> None:
    node = Node()
    stream = Stream(node, (), "the node")
    calls = [asyncio.create_task(collected(stream, f"task-{n}")) for n in range(3)]
    async with asyncio.timeout(60):
        asked = await node.asked.get()
        assert [call.task.id for call in asked.begin] == ["task-0", "task-1", "task-2"]
        for call in asked.begin:
            node.says(call.number, call.task.id, " said", ended=True)
        assert await asyncio.gather(*calls) == ["task-0 said", "task-1 said", "task-2 said"]
        stream.end(NodeUnavailable("the test is over"))
        await stream.closed()


async def test_a_reader_who_goes_away_leaves_its_call() -> None:
    node = Node()
    stream = Stream(node, (), "the node")
    events = stream.run(pb.Task(id="task"))
    first = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(60):
        (call,) = (await node.asked.get()).begin
        node.says(call.number, "one")
        assert (await first).output.text == "one"
        await events.aclose()
        assert list((await node.asked.get()).leave) == [call.number]
        stream.end(NodeUnavailable("the test is over"))
        await stream.closed()


async def test_a_stream_that_ends_ends_its_calls() -> None:
    node = Node()
    stream = Stream(node, (), "the node")
    call = asyncio.create_task(collected(stream, "task"))
    async with asyncio.timeout(60):
        await node.asked.get()
        node.told.put_nowait(None)
        with pytest.raises(NodeUnavailable, match="the node ended the stream of calls"):
            await call
        assert stream.has_ended
        node.cancel()


async def test_what_a_reader_does_not_take_is_held_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "HELD_BYTES", 100)
    node = Node()
    stream = Stream(node, (), "the node")
    slow, quick = stream.run(pb.Task(id="slow")), asyncio.create_task(collected(stream, "quick"))
    first = asyncio.ensure_future(anext(slow))
    async with asyncio.timeout(60):
        begun = list((await node.asked.get()).begin)
        numbers = {
            call.task.id: call.number
            for call in begun + (list((await node.asked.get()).begin) if len(begun) < 2 else [])
        }
        node.says(numbers["slow"], "one")
        assert (await first).output.text == "one"
        for _ in range(20):
            node.says(numbers["slow"], "a piece of text")
        node.says(numbers["quick"], "done", ended=True)
        assert await quick == "done"
        assert list((await node.asked.get()).leave) == [numbers["slow"]]
        with pytest.raises(Overloaded, match="read faster"):
            [event async for event in slow]
        stream.end(NodeUnavailable("the test is over"))
        await stream.closed()
