"""How long a vendor may be silent, and how long a task may take: no call waits for ever."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Final, cast

from protos.errors import DeadlineExceeded, FabricError, NodeUnavailable
from protos.types import Modality, Queued, Started, Task, TaskEvent
from providers.calls import Interruptible
from providers.wrappers.stack import Run

# Until the first output. Text: models that think for long say nothing meanwhile. The others answer in one piece.
_HEAD_S: Final = MappingProxyType(
    {Modality.TEXT: 120.0, Modality.IMAGE: 300.0, Modality.AUDIO: 600.0, Modality.EMBEDDING: 60.0}
)


_LOOK_S: Final = 1.0  # at most between two looks of a watch


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    head_s: Mapping[Modality, float] = field(default_factory=lambda: _HEAD_S)
    idle_s: float = 60.0  # between two outputs


class Timed:
    """A Layer. Time in which the reader of the events does not ask for the next one is not the vendor's."""

    seen = None

    def __init__(self, limits: TimeLimits | None = None) -> None:
        self._limits = limits or TimeLimits()

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        watch = _Watch(task, self._limits.head_s[task.modality])
        try:
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                while (event := await watch.next(events)) is not None:
                    if not isinstance(event, Queued | Started):
                        watch.silence_s = self._limits.idle_s
                    yield event
        finally:
            watch.close()


class _Watch:
    """One timer for a whole call: it looks whether it is time, and else goes to sleep until it may be."""

    def __init__(self, task: Task, silence_s: float) -> None:
        self.silence_s = silence_s
        self._task, self._loop = task, asyncio.get_running_loop()
        self._ends_at = inf if task.timeout_s is None else self._loop.time() + task.timeout_s
        self._waits_since: float | None = None  # None: the reader is busy with what it got
        self._wait = Interruptible()
        self._timer = self._loop.call_later(0, self._look)

    async def next(self, events: AsyncIterator[TaskEvent]) -> TaskEvent | None:
        self._waits_since = self._loop.time()
        try:
            return await self._wait.next(events)
        finally:
            self._waits_since = None

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        silent_at = (now if self._waits_since is None else self._waits_since) + self.silence_s
        if now >= self._ends_at:
            self._wait.interrupt(_too_long(self._task))
        elif now >= silent_at:
            self._wait.interrupt(_silent(self._task, self.silence_s))
        else:
            # What is bounded shorter from now on is looked at in time, too.
            self._timer = self._loop.call_at(min(self._ends_at, silent_at, now + _LOOK_S), self._look)


def _too_long(task: Task) -> FabricError:
    return DeadlineExceeded(
        f"task {task.id} took longer than its timeout_s of {task.timeout_s:g}: allow it more", may_have_run=True
    )


def _silent(task: Task, silence_s: float) -> FabricError:
    return NodeUnavailable(
        f"the vendor of task {task.id} was silent for {silence_s:g} s: it may have been run and charged",
        may_have_run=True,
    )
