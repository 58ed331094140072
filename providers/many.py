"""The client of ExecuteMany: one stream to a node, and the calls of Execute that share it.

Not about which calls do (node.py) nor about what their events mean.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from protos.errors import FabricError, NodeUnavailable, Overloaded
from protos.fabric.node.v1 import node_pb2 as pb
from protos.grpc_status import from_bytes, from_rpc_error

MESSAGE_BYTES: Final = 4 << 20  # of tasks in one message, about; the node takes several times as much

HELD_BYTES: Final = 64 << 20  # of a call whose reader is behind: what is larger is not held for it


class NotServedError(Exception):
    """The node has no ExecuteMany. Nothing was run. Never leaves this package."""


@dataclass(slots=True)
class _Mailbox:
    """What was told of one call and is not read yet."""

    events: list[pb.TaskEvent] = field(default_factory=list)
    held_bytes: int = 0
    has_ended: bool = False
    error: Exception | None = None
    rung: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, told: pb.CallTold) -> None:
        self.events.extend(told.events)
        self.held_bytes += told.ByteSize()
        self.rung.set()

    def take(self) -> list[pb.TaskEvent]:
        events, self.events, self.held_bytes = self.events, [], 0
        return events

    def end(self, error: Exception | None) -> None:
        if not self.has_ended:
            self.has_ended, self.error = True, error
            self.rung.set()


class Stream:
    """Opened at its first call. Ends for good with the connection, or by `end`; then a new one is to be made."""

    def __init__(self, stub: Any, metadata: Any, peer: str) -> None:  # Any: generated stubs are untyped, as is grpc.aio
        self._peer = peer
        self._numbers = itertools.count(1)
        self._mailboxes: dict[int, _Mailbox] = {}
        self._begin: list[pb.Call] = []
        self._leave: list[int] = []
        self._rung = asyncio.Event()
        self._call = stub.ExecuteMany(self._asked(), metadata=metadata)
        self._reading = asyncio.create_task(self._read(), name=f"stream of {peer}")

    @property
    def has_ended(self) -> bool:
        return self._reading.done()

    async def run(self, task: pb.Task) -> AsyncGenerator[pb.TaskEvent, None]:
        """The events of one call. Close it to go away. Raises what ended it, NotServedError too."""
        number, mailbox = next(self._numbers), _Mailbox()
        self._mailboxes[number] = mailbox
        self._begin.append(pb.Call(number=number, task=task))
        self._rung.set()
        try:
            while True:
                await mailbox.rung.wait()
                mailbox.rung.clear()
                for event in mailbox.take():
                    yield event
                if mailbox.has_ended and not mailbox.events:
                    break
            if mailbox.error is not None:
                raise mailbox.error
        finally:
            if self._mailboxes.pop(number, None) is not None and not mailbox.has_ended:
                self._leave.append(number)
                self._rung.set()

    def end(self, error: FabricError) -> None:
        """Ends its calls with this error."""
        self._end_all(error)
        self._call.cancel()

    async def closed(self) -> None:
        """Returns when nothing of it runs any more."""
        await asyncio.wait({self._reading})

    async def _asked(self) -> AsyncIterator[pb.Calls]:
        while True:
            await self._rung.wait()
            self._rung.clear()
            begin, self._begin, leave, self._leave = self._begin, [], self._leave, []
            while begin or leave:
                part = _first(begin)
                yield pb.Calls(begin=part, leave=leave)
                begin, leave = begin[len(part) :], []

    async def _read(self) -> None:
        with suppress(asyncio.CancelledError):  # of the call, by `end`
            try:
                async for told in self._call:
                    for each in told.calls:
                        self._put(each)
                self._end_all(NodeUnavailable(f"{self._peer} ended the stream of calls; what ran there is lost"))
            except grpc.aio.AioRpcError as error:
                is_served = error.code() is not grpc.StatusCode.UNIMPLEMENTED
                self._end_all(from_rpc_error(error, self._peer) if is_served else NotServedError())

    def _put(self, told: pb.CallTold) -> None:
        mailbox = self._mailboxes.get(told.number)
        if mailbox is None:
            return  # its reader has gone
        mailbox.put(told)
        if told.ended:
            mailbox.end(from_bytes(told.error, self._peer) if told.error else None)
        elif mailbox.held_bytes > HELD_BYTES:
            self._leave_behind(told.number, mailbox)

    def _leave_behind(self, number: int, mailbox: _Mailbox) -> None:
        held = mailbox.held_bytes
        mailbox.end(Overloaded(f"the caller is {held} bytes behind, {HELD_BYTES} are held for it: read faster"))
        del self._mailboxes[number]
        self._leave.append(number)
        self._rung.set()

    def _end_all(self, error: Exception) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.end(error)


def _first(calls: list[pb.Call]) -> list[pb.Call]:
    """As many as one message may have, at least one."""
    sizes = itertools.accumulate(call.ByteSize() for call in calls)
    return calls[: max(1, sum(size <= MESSAGE_BYTES for size in sizes))]
