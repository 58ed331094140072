"""One accepted task while it lives: how far it is, its clock, its end.

Not about what moves it on (service.py) nor who hears of it (callers.py).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from node.callers import Audience
from node.engine import Prepared
from node.entries import Entry
from node.scheduler.forecast import Met
from node.scheduler.messages import Ended
from protos.errors import FabricError
from protos.types import Finished, Progress, Queued, Started, Task, TaskEvent, Timings

_NOTHING_MET: Final = Met(0.0)  # shared by all who wait: they are many


class Run:
    """Ends exactly once. Event loop only."""

    __slots__ = (
        *(
            "_arrived_s",
            "_clock",
            "_eta_s",
            "_first_output_s",
            "_is_queued",
            "_load_s",
            "_queued_s",
            "_sent_s",
            "audience",
        ),
        *(
            "done",
            "entry",
            "expected_s",
            "found_seat",
            "held_s",
            "is_seated",
            "met",
            "prepared",
            "seat_at_s",
            "task",
            "work",
        ),
    )

    def __init__(self, task: Task, entry: Entry, clock: Callable[[], float]) -> None:
        self.task, self.entry, self._clock = task, entry, clock
        self.prepared: Prepared | None = None
        self.expected_s = 0.0  # that it would take alone, once it is prepared; 0: nobody can say
        self.done: asyncio.Future[Ended | None] | None = None  # what the device loop says at the end; None: given back
        self.audience = Audience(task.id)
        self.is_seated = False
        self.seat_at_s = 0.0  # on the clock
        self.held_s = 0.0  # how long it had its seat, once it has left it
        self.met = _NOTHING_MET  # what there was when it was sent to the device loop
        self.found_seat = False  # there was a free one then
        self.work: asyncio.Task[None] | None = None  # moves it on; cancelled when it ends early
        self._arrived_s = clock()
        self._load_s = self._sent_s = self._queued_s = self._first_output_s = 0.0  # its age when that happened
        self._eta_s: float | None = None  # how old it should be at its end
        self._is_queued = False

    @property
    def age_s(self) -> float:
        return self._clock() - self._arrived_s

    @property
    def timings(self) -> Timings:
        return Timings(
            queued_s=self._queued_s, load_s=self._load_s, first_output_s=self._first_output_s, total_s=self.age_s
        )

    @property
    def now_s(self) -> float:
        return self._clock()

    @property
    def seated_s(self) -> float:
        """Since it got its seat; 0 while it waits."""
        return self._clock() - self.seat_at_s if self.is_seated else 0.0

    @property
    def waited_s(self) -> float:
        """From when it was sent to the device loop until it had its seat."""
        return self._queued_s - self._sent_s

    @property
    def is_on_device(self) -> bool:
        """It was sent to the device loop, which has not ended it yet."""
        return self.done is not None and not self.done.done()

    # ---- what happens ----

    def prepare(self, prepared: Prepared) -> None:
        self.prepared, self.expected_s = prepared, prepared.expected_s

    def queue(self, position: int) -> None:
        """Tells the callers, once."""
        if not self._is_queued:
            self._is_queued = True
            self.audience.tell(Queued(position, self._eta_s))

    def loaded(self) -> None:
        self._load_s = self.age_s

    def send(self, met: Met, eta_s: float, *, found_seat: bool) -> None:
        """It is sent to the device loop. eta_s: how long it should take from now on."""
        self.met, self.found_seat, self._sent_s = met, found_seat, self.age_s
        self._eta_s = self._sent_s + eta_s

    def start(self, started: Started) -> None:
        self.is_seated, self.seat_at_s = True, self._clock()
        self._queued_s = self.seat_at_s - self._arrived_s
        self.audience.tell(started)

    def output(self, event: TaskEvent) -> None:
        if not isinstance(event, Progress):
            self._see_output()
        self.audience.tell(event)

    def finish(self, finished: Finished) -> None:
        self._see_output()
        self.audience.tell(replace(finished, timings=self.timings))
        self.audience.end(None)

    def fail(self, error: FabricError) -> None:
        self.audience.end(error)

    def _see_output(self) -> None:
        if self._first_output_s == 0.0:
            self._first_output_s = self.age_s
