"""The calls that run at a remote place: cancelled by the id of their task, wherever they wait.

Not about the calls of a node (node.py), which gRPC cancels.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from protos.errors import Cancelled
from protos.types import TaskId

Part = TypeVar("Part")


class RunningCall:
    """One call. It waits only in `next`, where a cancel reaches it at once."""

    def __init__(self, task_id: TaskId) -> None:
        self.is_sent = False  # its owner says when it may have begun at the vendor
        self._task_id = task_id
        self._is_cancelled = False
        self._waiting: asyncio.Timeout | None = None

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def check(self) -> None:
        """Raises Cancelled."""
        if self._is_cancelled:
            raise Cancelled(f"task {self._task_id} was cancelled", may_have_run=self.is_sent)

    async def next(self, parts: AsyncIterator[Part]) -> Part | None:
        """The next part, None after the last. Raises Cancelled."""
        try:
            async with asyncio.timeout(None) as self._waiting:
                part = await anext(parts, None)
        except TimeoutError:
            self.check()
            raise
        finally:
            self._waiting = None
        self.check()
        return part


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
