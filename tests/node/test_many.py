"""Many calls on one stream: each runs as it would alone, whatever becomes of the others and of the stream."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

import pytest

from node import many
from node.many import Many
from protos.errors import FabricError, InputInvalid, Internal, Overloaded
from protos.fabric.node.v1 import node_pb2 as pb
from protos.grpc_status import from_bytes


class Asked:
    """What the caller sends; ends with None."""

    def __init__(self, *calls: pb.Calls) -> None:
        self.queue: asyncio.Queue[pb.Calls | None] = asyncio.Queue()
        for each in calls:
            self.queue.put_nowait(each)

    async def __aiter__(self) -> AsyncIterator[pb.Calls]:
        while (calls := await self.queue.get()) is not None:
            yield calls


def begin(*numbers: int) -> pb.Calls:
    return pb.Calls(begin=[pb.Call(number=number, task=pb.Task(id=f"task-{number}")) for number in numbers])


class Place:
    """Runs tasks: each tells its events when its gate is open; `closed` are those whose reader went away."""

    def __init__(self, events: int = 2, error: Exception | None = None) -> None:
        self.events, self.error = events, error
        self.gate, self.told = asyncio.Event(), 0
        self.begun: list[str] = []
        self.closed: list[str] = []
        self._changed = asyncio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def execute(self, task: pb.Task) -> AsyncGenerator[pb.TaskEvent, None]:
        self.begun.append(task.id)
        self._changed.set()
        try:
            await self.gate.wait()
            for number in range(self.events):
                self.told += 1
                yield pb.TaskEvent(task_id=task.id, output=pb.Output(text=f"{number} "))
            if self.error is not None:
                raise self.error
        except (asyncio.CancelledError, GeneratorExit):
            self.closed.append(task.id)
            self._changed.set()
            raise


def collected(all_told: Iterable[pb.Told]) -> dict[int, str]:
    """What was said in each call, then how it ended."""
    said: dict[int, str] = defaultdict(str)
    for told in all_told:
        for call in told.calls:
            said[call.number] += "".join(event.output.text for event in call.events)
            said[call.number] += ("failed" if call.error else "ended") if call.ended else ""
    return dict(said)


async def test_calls_that_speak_at_once_are_one_message() -> None:
    place, asked = Place(), Asked(begin(1, 2, 3), None)  # type: ignore[arg-type]  # None: the end
    place.gate.set()
    async with asyncio.timeout(60):
        told = [each async for each in Many(place.execute).serve(asked.__aiter__())]
    assert collected(told) == dict.fromkeys((1, 2, 3), "0 1 ended")
    assert len(told) < 3


@pytest.mark.parametrize(
    ("raised", "told_as"), [(Overloaded("full", retry_after_s=2.0), Overloaded), (ZeroDivisionError("x"), Internal)]
)
async def test_an_error_ends_its_call_alone(raised: Exception, told_as: type[FabricError]) -> None:
    place, asked = Place(error=raised), Asked(begin(1), begin(2), None)  # type: ignore[arg-type]  # as above
    place.gate.set()
    async with asyncio.timeout(60):
        told = [each async for each in Many(place.execute).serve(asked.__aiter__())]
    assert collected(told) == {1: "0 1 failed", 2: "0 1 failed"}
    error = from_bytes(told[-1].calls[-1].error, "the node")
    assert type(error) is told_as
    assert error.retry_after_s == (2.0 if told_as is Overloaded else None)


async def test_who_leaves_a_call_ends_it_and_no_other() -> None:
    place, asked = Place(), Asked(begin(1, 2))
    serving = Many(place.execute).serve(asked.__aiter__())
    heard = asyncio.ensure_future(anext(serving))
    async with asyncio.timeout(60):
        await place.until(lambda: len(place.begun) == 2)
        asked.queue.put_nowait(pb.Calls(leave=[1]))
        await place.until(lambda: place.closed == ["task-1"])
        place.gate.set()
        asked.queue.put_nowait(None)
        told = [await heard, *[each async for each in serving]]
    assert collected(told) == {2: "0 1 ended"}


async def test_a_call_that_is_left_as_it_begins_does_not_hold_up_the_end() -> None:
    place, asked = Place(), Asked(pb.Calls(begin=begin(1).begin, leave=[1]), None)  # type: ignore[arg-type]  # as above
    async with asyncio.timeout(60):
        assert [each async for each in Many(place.execute).serve(asked.__aiter__())] == []


async def test_a_stream_that_is_closed_ends_its_calls() -> None:
    place, asked = Place(), Asked(begin(1, 2))
    serving = Many(place.execute).serve(asked.__aiter__())
    heard = asyncio.ensure_future(anext(serving))
    async with asyncio.timeout(60):
        await place.until(lambda: len(place.begun) == 2)
        heard.cancel()
        await asyncio.wait({heard})
    assert sorted(place.closed) == ["task-1", "task-2"]


async def test_calls_wait_for_a_reader_who_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "UNTOLD_BYTES", 200)
    place, asked = Place(events=1000), Asked(begin(1))
    place.gate.set()
    serving = Many(place.execute).serve(asked.__aiter__())
    async with asyncio.timeout(60):
        first = await anext(serving)
        for _ in range(100):
            await asyncio.sleep(0)
        assert place.told < 50
        asked.queue.put_nowait(None)
        told = [first, *[each async for each in serving]]
    assert collected(told)[1].split()[-2:] == ["999", "ended"]


async def test_a_number_that_is_in_use_ends_the_stream() -> None:
    place, asked = Place(), Asked(begin(1), begin(1))
    with pytest.raises(InputInvalid, match="is 1, which a call of this stream has that runs"):
        async with asyncio.timeout(60):
            [each async for each in Many(place.execute).serve(asked.__aiter__())]
    assert place.closed == ["task-1"]
