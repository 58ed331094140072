"""The device loop: one thread that owns the device, seats tasks and steps the engine whose turn it is.

Not about order (rooms.py), turns (policy.py) or blame (blame.py), which are pure; nor about loading models (registry.py).
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import assert_never

from node.engine import Done, Engine, Failed, Step, StepEvent
from node.scheduler import blame, policy
from node.scheduler.messages import (
    Attach,
    Cancel,
    Detach,
    Ended,
    Entered,
    Gone,
    Message,
    Output,
    Report,
    Seated,
    Stepped,
    Stop,
    Submit,
)
from node.scheduler.rooms import Room
from protos.errors import Cancelled, FabricError, Internal, OutOfMemory
from protos.types import ModelId, Progress, TaskId

log = logging.getLogger(__name__)


class _Seat:
    """What the loop keeps of a seated task."""

    __slots__ = ("device_s", "good_steps", "has_output", "submit")

    def __init__(self, submit: Submit) -> None:
        self.submit, self.device_s, self.good_steps, self.has_output = submit, 0.0, 0, False


class _Lane:
    """One attached engine with its room and its seats."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.room: Room[Submit] = Room()
        self.seats: dict[TaskId, _Seat] = {}
        self.aside: deque[Submit] = deque()  # lost their seat to a bisection; go before the room
        self.on_trial = False  # the last step threw: nobody is seated until one succeeds
        self.seat_limit = engine.seats  # lowered when the device runs out of memory

    def next(self) -> Submit | None:
        return self.aside[0] if self.aside else self.room.first()

    def take_next(self) -> Submit:
        return self.aside.popleft() if self.aside else self.room.take()

    @property
    def is_open(self) -> bool:
        return len(self.seats) < self.seat_limit and not (self.on_trial and self.seats)


class DeviceLoop:
    """Runs on one thread; `send` may be called from any. `report` gets all that a turn did, in order, in one call."""

    def __init__(
        self,
        report: Callable[[Sequence[Report]], object],
        quantum_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._report, self._quantum_s, self._clock = report, quantum_s, clock
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: dict[ModelId, _Lane] = {}
        self._shares = policy.Shares()
        self._reports: list[Report] = []
        self._is_stopped = False

    def send(self, message: Message) -> None:
        self._inbox.put(message)

    def run(self) -> None:
        """Until Stop. Blocks only when no task has a seat."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Takes the messages in, seats all that fits, makes one step. False: stopped."""
        if self._admit():
            self._step(self._pick())
        self._flush()
        return not self._is_stopped

    # ---- taking in ----

    def _admit(self) -> bool:
        """True when a lane has work. Waits for a message when none has, nor a task that could be seated now."""
        self._read(block=not any(lane.seats or lane.next() for lane in self._lanes.values()))
        for model, lane in self._lanes.items():
            self._seat(model, lane)
        self._flush()  # callers hear that they are seated before a long step, not after it
        return bool(self._runnable())

    def _runnable(self) -> list[ModelId]:
        return [model for model, lane in self._lanes.items() if lane.seats]

    def _read(self, *, block: bool) -> None:
        try:
            while not self._is_stopped:
                self._handle(self._inbox.get(block=block))
                block = False
        except Empty:
            return

    def _handle(self, message: Message) -> None:
        match message:
            case Submit():
                lane = self._lanes[message.model]
                lane.room.put(message)
                self._reports.append(Entered(message.task_id, lane.room.position(message)))
            case Cancel(model, task_id):
                self._cancel(model, task_id)
                self._reports.append(Gone(task_id))
            case Attach(engine, weight):
                self._lanes[engine.model] = _Lane(engine)
                self._shares = policy.join(self._shares, engine.model, weight)
            case Detach(model, then):
                self._detach(model)
                then()
            case Stop():
                self._is_stopped = True
                for model in list(self._lanes):
                    self._detach(model)
            case _:
                assert_never(message)

    def _cancel(self, model: ModelId, task_id: TaskId) -> None:
        lane = self._lanes.get(model)
        if lane is None:
            return
        if lane.seats.pop(task_id, None) is not None:
            lane.engine.cancel(task_id)
        elif lane.room.cancel(task_id) is None:
            lane.aside = deque(submit for submit in lane.aside if submit.task_id != task_id)

    def _detach(self, model: ModelId) -> None:
        lane = self._lanes.pop(model)
        self._shares = policy.leave(self._shares, model)
        for task_id in [*lane.seats, *(s.task_id for s in lane.aside), *(s.task_id for s in lane.room)]:
            lane.engine.cancel(task_id)
            self._reports.append(Ended(task_id, Cancelled(f"model {model!r} was unloaded"), 0.0))
        lane.engine.close()

    def _seat(self, model: ModelId, lane: _Lane) -> None:
        was_idle = not lane.seats
        while lane.is_open and (submit := lane.next()) is not None and self._offer(model, lane, submit):
            pass
        if was_idle and lane.seats:
            self._shares = policy.wake(self._shares, model)

    def _offer(self, model: ModelId, lane: _Lane, submit: Submit) -> bool:
        """Seats the first in line, or fails it. False: no room now, and who is too big holds back those behind."""
        try:
            has_seat = lane.engine.admit(submit.prepared)
            if not has_seat and not lane.seats:
                raise Internal(
                    f"model {model!r} has nobody seated and no room for task {submit.task_id!r}: this is a bug"
                )
        except Exception as error:  # noqa: BLE001 - the top of the device loop: it becomes a failed task
            lane.take_next()
            self._reports.append(Ended(submit.task_id, _translated(error, model), 0.0))
            return True
        if has_seat:
            if not lane.aside:  # who was put aside was seated before, and its caller knows
                self._reports.append(Seated(submit.task_id))
            lane.take_next()
            lane.seats[submit.task_id] = _Seat(submit)
        return has_seat

    # ---- stepping ----

    def _pick(self) -> ModelId:
        chosen, self._shares = policy.pick(self._shares, self._runnable())
        return chosen

    def _step(self, model: ModelId) -> None:
        lane = self._lanes[model]
        began = self._clock()
        try:
            step = lane.engine.step(policy.quantum(self._runnable(), self._quantum_s))
            self._settle(model, lane, step, self._clock() - began)
        except Exception as error:  # noqa: BLE001 - the top of the device loop: it becomes failed tasks
            self._retire(model, lane, error)
        self._shares = policy.charge(self._shares, model, self._clock() - began)

    def _settle(self, model: ModelId, lane: _Lane, step: Step, device_s: float) -> None:
        lane.on_trial = False
        units = sum(step.work.values())
        self._reports.append(Stepped(model, len(step.work), units, device_s))
        for task_id, work in step.work.items():
            lane.seats[task_id].device_s += device_s * work / units if units else 0.0
            lane.seats[task_id].good_steps += 1
        for task_id, event in step.events:
            self._pass_on(lane, task_id, event)

    def _pass_on(self, lane: _Lane, task_id: TaskId, event: StepEvent) -> None:
        match event:
            case Done():
                self._reports.append(Ended(task_id, event, lane.seats.pop(task_id).device_s))
            case Failed(error):
                self._reports.append(Ended(task_id, error, lane.seats.pop(task_id).device_s))
            case _:
                lane.seats[task_id].has_output |= not isinstance(event, Progress)
                self._reports.append(Output(task_id, event))

    def _retire(self, model: ModelId, lane: _Lane, error: Exception) -> None:
        """Puts aside or fails some of the seated, so that the next step runs without them."""
        translated = _translated(error, model)
        verdict = blame.judge([blame.Suspect(id_, s.good_steps, s.has_output) for id_, s in lane.seats.items()])
        lane.on_trial = True
        if isinstance(translated, OutOfMemory):
            lane.seat_limit = max(1, len(lane.seats) // 2)
        for task_id in verdict.aside:
            lane.engine.cancel(task_id)
            lane.aside.append(lane.seats.pop(task_id).submit)
        for task_id in verdict.guilty:
            lane.engine.cancel(task_id)
            self._reports.append(Ended(task_id, translated, lane.seats.pop(task_id).device_s))
        if verdict.guilty:
            log.error("a step of model %s threw; it ends tasks %s", model, list(verdict.guilty), exc_info=error)

    def _flush(self) -> None:
        if self._reports:
            reports, self._reports = self._reports, []
            self._report(reports)


def _translated(error: Exception, model: ModelId) -> FabricError:
    """What a caller is told of what an engine raised. Out of memory is known by its name: torch is not imported here."""
    if isinstance(error, FabricError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(f"the device ran out of memory in a step of model {model!r}: retry, or lower its seats")
    return Internal(f"a step of model {model!r} failed ({type(error).__name__}): the node's log has the stack trace")
