"""Those who read the events of one run: each gets what came before it joined, then what comes, then the end.

Not about what makes the events (runs.py, router/grpc.py).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from protos.errors import FabricError, Overloaded
from protos.types import Finished, Preview, Progress, TaskEvent, TaskId, TextDelta

CALLER_EVENTS: Final = 1024  # that a slow caller may owe; text and progress are merged, so only segments can pile up


def merge(events: list[TaskEvent], event: TaskEvent) -> None:
    """Appends `event`; into an earlier one where one can say both. What a reader makes of the events stays the same."""
    last = events[-1] if events else None
    if isinstance(event, TextDelta):
        _add_text(events, event)
    elif _replaces(event, last):
        events[-1] = event
    else:
        events.append(event)


def _add_text(events: list[TaskEvent], delta: TextDelta) -> None:
    """To the last of the same answer; only other answers' texts may lie between."""
    for place in reversed(range(len(events))):
        last = events[place]
        if not isinstance(last, TextDelta):
            break
        if last.answer == delta.answer:
            logprobs = (*last.logprobs, *delta.logprobs) if delta.logprobs else last.logprobs
            events[place] = TextDelta(last.text + delta.text, delta.answer, logprobs)
            return
    events.append(delta)


def _replaces(event: TaskEvent, last: TaskEvent | None) -> bool:
    if isinstance(event, Preview) and isinstance(last, Preview):
        return event.index == last.index
    return isinstance(event, Progress) and isinstance(last, Progress)


class Caller:
    """One reader of a run. Slow readers get merged events, not fewer words."""

    __slots__ = ("_error", "_events", "_is_over", "_reader")

    def __init__(self, past: list[TaskEvent]) -> None:
        self._events = list(past)
        self._error: FabricError | None = None
        self._is_over = False
        self._reader: asyncio.Future[None] | None = (
            None  # waits for more; an Event takes 700 bytes, and most callers wait
        )

    def push(self, event: TaskEvent) -> None:
        if len(self._events) >= CALLER_EVENTS and not isinstance(event, Finished):
            self.end(Overloaded(f"the caller is {CALLER_EVENTS} events behind: read faster", retry_after_s=1.0))
        if not self._is_over:
            merge(self._events, event)
            self._ring()

    def end(self, error: FabricError | None) -> None:
        if not self._is_over:
            self._is_over, self._error = True, error
            self._ring()

    def _ring(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self) -> list[TaskEvent]:
        """The next events, when there are some; none at the end. Raises the error that ended the run."""
        while not self._events and not self._is_over:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        events, self._events = self._events, []
        if not events and self._error is not None:
            raise self._error
        return events


class Audience:
    """The callers of one run, and what it has told so far. Ends exactly once. Event loop only."""

    __slots__ = ("_callers", "_past", "_task_id", "is_over")

    def __init__(self, task_id: TaskId) -> None:
        self.is_over = False
        self._task_id = task_id
        self._callers: list[Caller] = []
        self._past: list[TaskEvent] = []

    async def listen(self, on_deserted: Callable[[], None]) -> AsyncGenerator[TaskEvent, None]:
        """The events for one more caller; raises the error that ended the run. Close it to go away: `on_deserted` is
        called when the last one has and the run still goes on."""
        caller = Caller(self._past)
        self._callers.append(caller)
        try:
            while events := await caller.read():
                for event in events:
                    yield event
        finally:
            self._callers.remove(caller)
            if not self._callers and not self.is_over:
                on_deserted()

    def tell(self, event: TaskEvent) -> None:
        assert not self.is_over, f"task {self._task_id} got {type(event).__name__} after its end: this is a bug"
        merge(self._past, event)
        for caller in self._callers:
            caller.push(event)

    def end(self, error: FabricError | None) -> None:
        assert not self.is_over, f"task {self._task_id} ended twice: this is a bug"
        self.is_over = True
        for caller in self._callers:
            caller.end(error)
