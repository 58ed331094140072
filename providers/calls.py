"""Waits at a remote place that somebody else can end: a cancel by the id of a task, or a silence that lasts too long.

Not about the calls of a node (node.py), which gRPC cancels. `asyncio.timeout` around every event of a stream costs more
than all else that a layer does; this costs a few attribute writes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from protos.errors import Cancelled, FabricError
from protos.types import TaskId

Part = TypeVar("Part")


class Interruptible:
    """The waits of one reader, one after another. An interrupt ends the one under way, or else the next."""

    def __init__(self) -> None:
        self.reason: FabricError | None = None  # why it was interrupted
        self._waiting: asyncio.Task[object] | None = None

    def interrupt(self, reason: FabricError) -> None:
        """The first reason counts."""
        if self.reason is None:
            self.reason = reason
            if self._waiting is not None:
                self._waiting.cancel()

    async def next(self, parts: AsyncIterator[Part]) -> Part | None:
        """The next part, None after the last. Raises the reason of an interrupt."""
        if self.reason is not None:
            raise self.reason
        task = asyncio.current_task()
        assert task is not None, "a wait outside of any task: this is a bug"
        others = task.cancelling()
        self._waiting = task
        try:
            return await anext(parts, None)
        except asyncio.CancelledError:
            if self.reason is not None and task.uncancel() <= others:
                raise self.reason from None
            raise  # the reader's own, or of a wait around this one
        finally:
            self._waiting = None


class RunningCall:
    """One call, and whether it may have begun at the vendor: its owner says so."""

    def __init__(self, task_id: TaskId) -> None:
        self.is_sent = False
        self._task_id = task_id
        self._wait = Interruptible()

    def cancel(self) -> None:
        self._wait.interrupt(Cancelled(f"task {self._task_id} was cancelled", may_have_run=self.is_sent))

    def check(self) -> None:
        """Raises Cancelled."""
        if self._wait.reason is not None:
            raise self._wait.reason

    async def next(self, parts: AsyncIterator[Part]) -> Part | None:
        """The next part, None after the last. Raises Cancelled."""
        return await self._wait.next(parts)


class RunningCalls:
    """Those of one provider. Two of the same task, as a hedge has them, end together."""

    def __init__(self) -> None:
        self._calls: dict[RunningCall, TaskId] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def running(self, task_id: TaskId) -> Iterator[RunningCall]:
        call = RunningCall(task_id)
        self._calls[call] = task_id
        try:
            yield call
        finally:
            del self._calls[call]

    def cancel(self, task_id: TaskId) -> None:
        for call, its_task in self._calls.items():
            if its_task == task_id:
                call.cancel()
