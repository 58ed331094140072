"""One accepted task while it lives: its callers, the events so far, its clock, its end.

Not about what moves it on (service.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from node.engine import Prepared
from node.entries import Entry
from node.scheduler.messages import Ended
from protos.errors import FabricError, Overloaded
from protos.types import Finished, Preview, Progress, Queued, Started, Task, TaskEvent, TextDelta, Timings

CALLER_EVENTS: Final = 1024  # that a slow caller may owe; text and progress are merged, so only segments can pile up


def merge(events: list[TaskEvent], event: TaskEvent) -> None:
    """Appends `event`; into the last one where one can say both. What a reader makes of the events stays the same."""
    last = events[-1] if events else None
    if isinstance(event, TextDelta) and isinstance(last, TextDelta):
        events[-1] = TextDelta(last.text + event.text)
    elif _replaces(event, last):
        events[-1] = event
    else:
        events.append(event)


def _replaces(event: TaskEvent, last: TaskEvent | None) -> bool:
    if isinstance(event, Preview) and isinstance(last, Preview):
        return event.index == last.index
    return isinstance(event, Progress) and isinstance(last, Progress)


class Caller:
    """One reader of a run. Slow readers get merged events, not fewer words."""

    def __init__(self, past: list[TaskEvent]) -> None:
        self._events = list(past)
        self._error: FabricError | None = None
        self._is_over = False
        self._rung = asyncio.Event()

    def push(self, event: TaskEvent) -> None:
        if len(self._events) >= CALLER_EVENTS and not isinstance(event, Finished):
            self.end(Overloaded(f"the caller is {CALLER_EVENTS} events behind: read faster", retry_after_s=1.0))
        if not self._is_over:
            merge(self._events, event)
            self._rung.set()

    def end(self, error: FabricError | None) -> None:
        if not self._is_over:
            self._is_over, self._error = True, error
            self._rung.set()

    async def read(self) -> AsyncIterator[TaskEvent]:
        """The events; raises the error that ended the run."""
        while True:
            events, self._events = self._events, []
            for event in events:
                yield event
            if self._events:
                continue
            if self._is_over:
                break
            self._rung.clear()
            await self._rung.wait()
        if self._error is not None:
            raise self._error


class Run:
    """Ends exactly once. Event loop only."""

    def __init__(self, task: Task, entry: Entry, clock: Callable[[], float]) -> None:
        self.task, self.entry, self._clock = task, entry, clock
        self.prepared: Prepared | None = None
        self.done: asyncio.Future[Ended] | None = None  # what the device loop says at the end
        self.is_seated = False
        self.is_over = False
        self.work: asyncio.Task[None] | None = None  # moves it on; cancelled when it ends early
        self.error: FabricError | None = None
        self._callers: list[Caller] = []
        self._past: list[TaskEvent] = []
        self._arrived_s = clock()
        self._timings = Timings()
        self._is_queued = False

    @property
    def age_s(self) -> float:
        return self._clock() - self._arrived_s

    @property
    def timings(self) -> Timings:
        return replace(self._timings, total_s=self.age_s)

    @property
    def expected_s(self) -> float:
        return self.prepared.expected_s if self.prepared is not None else 0.0

    @property
    def seated_s(self) -> float:
        """Since it got its seat; 0 while it waits."""
        return self.age_s - self._timings.queued_s if self.is_seated else 0.0

    @property
    def is_on_device(self) -> bool:
        """It was sent to the device loop, which has not ended it yet."""
        return self.done is not None and not self.done.done()

    # ---- callers ----

    def join(self) -> Caller:
        caller = Caller(self._past)
        self._callers.append(caller)
        return caller

    def leave(self, caller: Caller) -> bool:
        """True when that was the last one and the run still goes on."""
        self._callers.remove(caller)
        return not self._callers and not self.is_over

    # ---- what happens ----

    def queue(self, position: int) -> None:
        """Tells the callers, once."""
        if not self._is_queued:
            self._is_queued = True
            self._publish(Queued(position))

    def loaded(self) -> None:
        self._timings = replace(self._timings, load_s=self.age_s)

    def start(self, started: Started) -> None:
        self.is_seated = True
        self._timings = replace(self._timings, queued_s=self.age_s)
        self._publish(started)

    def output(self, event: TaskEvent) -> None:
        if not isinstance(event, Progress):
            self._see_output()
        self._publish(event)

    def finish(self, finished: Finished) -> None:
        self._see_output()
        self._publish(replace(finished, timings=self.timings))
        self._end(None)

    def fail(self, error: FabricError) -> None:
        self.error = error
        self._end(error)

    def _see_output(self) -> None:
        if self._timings.first_output_s == 0.0:
            self._timings = replace(self._timings, first_output_s=self.age_s)

    def _publish(self, event: TaskEvent) -> None:
        assert not self.is_over, f"task {self.task.id} got {type(event).__name__} after its end: this is a bug"
        merge(self._past, event)
        for caller in self._callers:
            caller.push(event)

    def _end(self, error: FabricError | None) -> None:
        assert not self.is_over, f"task {self.task.id} ended twice: this is a bug"
        self.is_over = True
        for caller in self._callers:
            caller.end(error)
