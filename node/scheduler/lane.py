"""One attached engine with its room and its seats: who gets a seat, what a step did for whom, who made it throw.

Not about whose turn it is (policy.py) nor about where a step runs (loop.py, beside.py). Belongs to the loop thread.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from node.engine import Done, Engine, Failed, Step, StepEvent
from node.scheduler import blame
from node.scheduler.messages import Ended, Entered, Output, Recalled, Report, Seated, Stepped, Submit
from node.scheduler.rooms import Room
from protos.errors import Cancelled, FabricError, Internal, OutOfMemory
from protos.types import ModelId, Progress, TaskId

log = logging.getLogger(__name__)

_REGROW_STEPS: Final = 256  # full ones without running out of memory, until one seat more is tried


class _Seat:
    """What is kept of a seated task."""

    __slots__ = ("device_s", "good_steps", "has_output", "submit", "units")

    def __init__(self, submit: Submit) -> None:
        self.submit, self.device_s, self.good_steps, self.units, self.has_output = submit, 0.0, 0, 0, False

    def ended(self, outcome: Done | FabricError) -> Ended:
        return Ended(self.submit.task_id, outcome, self.device_s, self.good_steps, self.units)


class Lane:
    """While its step is under way nothing of the engine is called: who leaves meanwhile is gone for its caller at once,
    and for the engine when the step is back.
    """

    def __init__(self, engine: Engine, tell: Callable[[Report], object], release: Callable[[], object]) -> None:
        """tell: takes what the callers are to hear, in order. release: gives memory back that the device's allocator keeps."""
        self.engine, self.model, self._tell, self._release = engine, engine.model, tell, release
        self._room: Room[Submit] = Room()
        self._seats: dict[TaskId, _Seat] = {}
        self._aside: deque[Submit] = deque()  # lost their seat to a bisection; go before the room
        self._gone: set[TaskId] = set()  # left during the step under way; the engine still seats them
        self._on_trial = False  # the last step threw: nobody is seated until one succeeds
        self._seat_limit = engine.seats  # halved when the device runs out of memory
        self._full_steps = 0  # since the limit was changed
        self.began_s: float | None = None  # of the step under way, on the loop's clock; None: none is

    @property
    def is_stepping(self) -> bool:
        return self.began_s is not None

    @property
    def is_busy(self) -> bool:
        return self.is_stepping or bool(self._seats)

    @property
    def is_runnable(self) -> bool:
        """It could be stepped now."""
        return bool(self._seats) and not self.is_stepping

    @property
    def can_move(self) -> bool:
        """It could be stepped, or seat somebody, now."""
        return not self.is_stepping and bool(self._seats or self._next())

    # ---- who comes and who goes ----

    def enter(self, submit: Submit) -> None:
        self._tell(Entered(submit.task_id, self._room.put(submit)))

    def fill(self) -> bool:
        """Seats all that fits, between steps. True when the lane has work and had none."""
        was_idle = not self._seats
        while self._is_open and (submit := self._next()) is not None and self._offer(submit):
            pass
        return was_idle and bool(self._seats)

    def cancel(self, task_id: TaskId) -> None:
        """Takes the task out of wherever it is; nothing is told of it from now on."""
        if self._seats.pop(task_id, None) is not None:
            self._unseat(task_id)
        elif self._room.cancel(task_id) is None:
            self._aside = deque(submit for submit in self._aside if submit.task_id != task_id)

    def recall(self) -> None:
        """Gives back those who wait. Who has a seat, or had one before a bisection, stays to its end."""
        for task_id in [submit.task_id for submit in self._room]:
            self._room.cancel(task_id)
            self._tell(Recalled(task_id))

    def dismiss(self) -> None:
        """Ends all of its tasks: the model is being unloaded."""
        waiting = [submit.task_id for submit in (*self._aside, *self._room)]
        for task_id in [*self._seats, *waiting]:
            self.cancel(task_id)
            self._tell(Ended(task_id, Cancelled(f"model {self.model!r} was unloaded"), 0.0))

    @property
    def _is_open(self) -> bool:
        has_room = len(self._seats) < self._seat_limit and not (self._on_trial and self._seats)
        return has_room and not self.is_stepping

    def _next(self) -> Submit | None:
        return self._aside[0] if self._aside else self._room.first()

    def _take_next(self) -> Submit:
        return self._aside.popleft() if self._aside else self._room.take()

    def _offer(self, submit: Submit) -> bool:
        """Seats the first in line, or fails it. False: no room now, and who is too big holds back those behind."""
        try:
            has_seat = self.engine.admit(submit.prepared)
            if not has_seat and not self._seats:
                raise Internal(
                    f"model {self.model!r} has nobody seated and no room for task {submit.task_id!r}: this is a bug"
                )
        except Exception as error:  # noqa: BLE001 - the top of the device loop: it becomes a failed task
            self._take_next()
            self._tell(Ended(submit.task_id, _translated(error, self.model), 0.0))
            return True
        if has_seat:
            if not self._aside:  # who was put aside was seated before, and its caller knows
                self._tell(Seated(submit.task_id))
            self._take_next()
            self._seats[submit.task_id] = _Seat(submit)
        return has_seat

    def _unseat(self, task_id: TaskId) -> None:
        if self.is_stepping:
            self._gone.add(task_id)
        else:
            self.engine.cancel(task_id)

    # ---- what a step did ----

    def take_back(self, outcome: Step | Exception, device_s: float) -> None:
        """The step under way has ended with `outcome` after `device_s` of the device's time."""
        self.began_s = None
        gone, self._gone = self._gone, set()
        for task_id in gone:
            self.engine.cancel(task_id)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self._settle(outcome, device_s, gone)
        except Exception as error:  # noqa: BLE001 - the top of the device loop: it becomes failed tasks
            self._retire(error, gone)

    def _settle(self, step: Step, device_s: float, gone: set[TaskId]) -> None:
        self._on_trial = False
        units = sum(step.work.values())
        self._tell(Stepped(self.model, len(step.work), units, device_s))
        for task_id, work in step.work.items():
            if task_id not in gone:
                seat = self._seats[task_id]
                seat.device_s += device_s * work / units if units else 0.0
                seat.good_steps += 1
                seat.units += work
        self._regrow()
        for task_id, event in step.events:
            if task_id not in gone:
                self._pass_on(task_id, event)

    def _pass_on(self, task_id: TaskId, event: StepEvent) -> None:
        match event:
            case Done():
                self._tell(self._seats.pop(task_id).ended(event))
            case Failed(error):
                self._tell(self._seats.pop(task_id).ended(error))
            case _:
                self._seats[task_id].has_output |= not isinstance(event, Progress)
                self._tell(Output(task_id, event))

    def _regrow(self) -> None:
        """What was too much while others held memory need not be so for ever."""
        if self._seat_limit < self.engine.seats and len(self._seats) >= self._seat_limit:
            self._full_steps += 1
            if self._full_steps >= _REGROW_STEPS:
                self._seat_limit, self._full_steps = self._seat_limit + 1, 0

    def _retire(self, error: Exception, gone: set[TaskId]) -> None:
        """Puts aside or fails some of the seated, so that the next step runs without them."""
        translated, was_on_trial, self._on_trial = _translated(error, self.model), self._on_trial, True
        if isinstance(translated, OutOfMemory):
            self._release()
        if not was_on_trial:
            log.warning("a step of model %s threw and is tried once more", self.model, exc_info=error)
            return  # once more as it was: what is nobody's fault, or needs what was released, hurts nobody
        if isinstance(translated, OutOfMemory):
            self._seat_limit, self._full_steps = max(1, (len(self._seats) + len(gone)) // 2), 0
        if gone or not self._seats:
            return  # who left may have been the culprit: the next step tells, without them
        verdict = blame.judge([blame.Suspect(id_, s.good_steps, s.has_output) for id_, s in self._seats.items()])
        for task_id in verdict.aside:
            self.engine.cancel(task_id)
            self._aside.append(self._seats.pop(task_id).submit)
        for task_id in verdict.guilty:
            self.engine.cancel(task_id)
            self._tell(self._seats.pop(task_id).ended(translated))
        if verdict.guilty:
            log.error("a step of model %s threw; it ends tasks %s", self.model, list(verdict.guilty), exc_info=error)


def _translated(error: Exception, model: ModelId) -> FabricError:
    """What a caller is told of what an engine raised. Out of memory is known by its name: torch is not imported here."""
    if isinstance(error, FabricError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(f"the device ran out of memory in a step of model {model!r}: retry, or lower its seats")
    return Internal(f"a step of model {model!r} failed ({type(error).__name__}): the node's log has the stack trace")
