"""ExecuteMany: many calls of Execute on one stream. Each runs as its own would; what they have to tell at a time is one
message, which is most of what a short task costs.

Not about what a call does (rpc.py).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from node.contract import named
from protos.errors import InputInvalid
from protos.fabric.node.v1 import node_pb2 as pb
from protos.grpc_status import to_bytes

TURNS: Final = 4  # of the event loop before a message goes: a call's last words and its end are a few turns apart
UNTOLD_BYTES: Final = 4 << 20  # beyond which the calls wait for their reader; a message has little more

Execute = Callable[[pb.Task], AsyncGenerator[pb.TaskEvent, None]]


class Many:
    """The calls of one stream. `execute`: the events of one; raises the FabricError that ends it."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._running: dict[int, asyncio.Task[None]] = {}
        self._untold: dict[int, pb.CallTold] = {}
        self._untold_bytes = 0
        self._rung, self._has_room = asyncio.Event(), asyncio.Event()
        self._has_room.set()

    async def serve(self, asked: AsyncIterator[pb.Calls]) -> AsyncGenerator[pb.Told, None]:
        """What to tell, until the caller has said all and heard all. Close it to end the calls that run."""
        reading = asyncio.create_task(self._read(asked))
        reading.add_done_callback(lambda _: self._rung.set())
        try:
            while self._running or self._untold or not reading.done():
                await self._rung.wait()
                for _ in range(TURNS):
                    await asyncio.sleep(0)
                self._rung.clear()
                if self._untold:
                    yield self._take()
                if reading.done():
                    reading.result()  # raises what was wrong with what was asked
        finally:
            tasks = [reading, *self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self, asked: AsyncIterator[pb.Calls]) -> None:
        async for calls in asked:
            for call in calls.begin:
                self._begin(call)
            for number in calls.leave:
                if number in self._running:
                    self._running[number].cancel()

    def _begin(self, call: pb.Call) -> None:
        if call.number in self._running:
            raise InputInvalid.at("number", f"is {call.number}, which a call of this stream has that runs: count up")
        running = self._running[call.number] = asyncio.create_task(self._run(call))
        running.add_done_callback(lambda _: self._forget(call.number))

    def _forget(self, number: int) -> None:
        del self._running[number]
        self._rung.set()

    async def _run(self, call: pb.Call) -> None:
        told = pb.CallTold(number=call.number, ended=True)
        try:
            async with aclosing(self._execute(call.task)) as events:
                async for event in events:
                    await self._has_room.wait()
                    self._tell(pb.CallTold(number=call.number, events=[event]))
        except Exception as error:  # noqa: BLE001 - the top of a call: it becomes a status
            told.error = to_bytes(named(error))
        self._tell(told)

    def _tell(self, told: pb.CallTold) -> None:
        known = self._untold.setdefault(told.number, told)
        if known is not told:
            known.MergeFrom(told)
        self._untold_bytes += told.ByteSize()
        if self._untold_bytes > UNTOLD_BYTES:
            self._has_room.clear()
        self._rung.set()

    def _take(self) -> pb.Told:
        told = pb.Told(calls=self._untold.values())
        self._untold, self._untold_bytes = {}, 0
        self._has_room.set()
        return told
