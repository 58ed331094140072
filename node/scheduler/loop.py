"""The device loop: one thread that owns the device and steps the engine whose turn it is.

Not about turns (policy.py) nor about what a step does for whom (lane.py); nor about loading models (registry.py).
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, assert_never

from node.engine import Engine, Step
from node.scheduler import policy
from node.scheduler.beside import Side, SideThread
from node.scheduler.lane import Lane
from node.scheduler.messages import Attach, Cancel, Detach, Gone, Message, Recall, Report, Returned, Stop, Submit
from protos.types import ModelId

log = logging.getLogger(__name__)

_STOP_S: Final = (
    5.0  # for steps under way beside the loop when it ends; the longest CTranslate2 call measured took 2.9 s
)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A call into an engine that has not come back yet. `model` is None where it is not a step: a seat taken or left."""

    model: ModelId | None
    for_s: float

    def __str__(self) -> str:
        what = f"a step of model {self.model!r}" if self.model is not None else "a call into an engine"
        return f"{what} has not come back for {self.for_s:.0f} s"


class DeviceLoop:
    """Runs on one thread; `send` may be called from any. `report` gets all that a turn did, in order, in one call.

    An engine that computes in threads of its own is launched, not waited for: its step runs on a side thread, the loop
    goes on with the others, and what the step did comes back as a message. So the loop only ever blocks on its inbox.
    """

    def __init__(
        self,
        report: Callable[[Sequence[Report]], object],
        quantum_s: float,
        threads: int = 1,
        *,
        clock: Callable[[], float] = time.perf_counter,
        new_side: Callable[[ModelId], Side] = SideThread,
        release: Callable[[], object] = lambda: None,
        ring: Callable[[], object] | None = None,
    ) -> None:
        """threads: of the device, which a second of the loop thread uses. clock: read by all threads. release: gives
        memory back that the device's allocator keeps, when an engine has run out of it. ring: for who turns the loop on a
        clock of its own, after each message."""
        self._report, self._quantum_s, self._threads, self._clock = report, quantum_s, threads, clock
        self._new_side, self._release, self._ring = new_side, release, ring
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: dict[ModelId, Lane] = {}
        self._sides: dict[ModelId, Side] = {}  # of the engines that compute beside the loop
        self._closing: dict[ModelId, Callable[[], object]] = {}  # detached: what to call when let go
        self._shares = policy.Shares()
        self._reports: list[Report] = []
        self._awake_s: float | None = None  # since when it has not waited for a message; None: it waits for one
        self._is_stopped = False

    def send(self, message: Message) -> None:
        self._inbox.put(message)
        if self._ring is not None:
            self._ring()

    @property
    def would_wait(self) -> bool:
        """A turn now would wait for a message. For who turns the loop on a clock of its own."""
        return self._inbox.empty() and not self._can_move()

    def longest_call(self) -> UnderWay | None:
        """Of all calls into engines, the one that is under way for the longest. From any thread."""
        lanes = tuple(self._lanes.items())
        calls: list[tuple[float, ModelId | None]] = [
            (s, model) for model, lane in lanes if (s := lane.began_s) is not None
        ]
        is_stepping = any(model not in self._sides for _, model in calls)
        if not is_stepping and (awake_s := self._awake_s) is not None:
            calls.append((awake_s, None))
        began_s, model = min(calls, key=lambda call: call[0], default=(None, None))
        return UnderWay(model, self._clock() - began_s) if began_s is not None else None

    def run(self) -> None:
        """Until Stop. Blocks only when there is nothing to step and nobody to seat."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Takes the messages in, seats all that fits, makes or launches one step. False: stopped."""
        self._awake_s = self._clock()
        if self._admit():
            self._step(self._pick())
        if self._is_stopped:
            self._await_steps()
        self._flush()
        return not self._is_stopped

    # ---- taking in ----

    def _admit(self) -> bool:
        """True when a lane can be stepped. Waits for a message when none can, nor seat anybody."""
        self._read(block=not self._can_move())
        for model, lane in self._lanes.items():
            if lane.fill():
                self._shares = policy.wake(self._shares, model)
        self._flush()  # callers hear that they are seated before a long step, not after it
        return bool(self._runnable())

    def _can_move(self) -> bool:
        return any(lane.can_move for lane in self._lanes.values())

    def _runnable(self) -> list[ModelId]:
        return [model for model, lane in self._lanes.items() if lane.is_runnable]

    def _read(self, *, block: bool) -> None:
        try:
            while not self._is_stopped:
                self._handle(self._wait() if block else self._inbox.get_nowait())
                block = False
        except Empty:
            return

    def _wait(self) -> Message:
        self._awake_s = None
        message = self._inbox.get()
        self._awake_s = self._clock()
        return message

    def _handle(self, message: Message) -> None:
        match message:
            case Submit():
                self._lanes[message.model].enter(message)
            case Cancel():
                self._cancel(message)
            case Recall(model):
                if model in self._lanes:
                    self._lanes[model].recall()
            case Returned():
                self._take_back(message)
            case Attach(engine, weight):
                self._attach(engine, weight)
            case Detach(model, then):
                self._detach(model, then)
            case Stop():
                self._stop()
            case _:
                assert_never(message)

    def _attach(self, engine: Engine, weight: float) -> None:
        model = engine.model
        assert model not in self._lanes, f"model {model!r} was attached before it was closed: this is a bug"
        self._lanes[model] = Lane(engine, self._reports.append, self._release)
        self._shares = policy.join(self._shares, model, weight)
        if engine.beside_threads:
            self._sides[model] = self._new_side(model)

    def _cancel(self, message: Cancel) -> None:
        if message.model in self._lanes:
            self._lanes[message.model].cancel(message.task_id)
        self._reports.append(Gone(message.task_id))

    def _detach(self, model: ModelId, then: Callable[[], object]) -> None:
        """Its tasks end now; it is let go now, or when the step that is under way is back."""
        self._lanes[model].dismiss()
        self._shares = policy.leave(self._shares, model)
        self._closing[model] = then
        if not self._lanes[model].is_stepping:
            self._let_go(model)

    def _stop(self) -> None:
        self._is_stopped = True
        for model in [model for model in self._lanes if model not in self._closing]:
            self._detach(model, self._lanes[model].engine.close)

    def _let_go(self, model: ModelId) -> None:
        if model in self._sides:
            self._sides.pop(model).close()
        del self._lanes[model]
        self._closing.pop(model)()

    def _await_steps(self) -> None:
        """Engines whose step is under way close when it is back. One that does not come back in time is left alone."""
        ends_s = time.monotonic() + _STOP_S
        while self._lanes:
            try:
                message = self._inbox.get(timeout=max(0.0, ends_s - time.monotonic()))
            except Empty:
                log.warning("the steps of %s did not end within %.0f s", ", ".join(self._lanes), _STOP_S)
                return
            if isinstance(message, Returned):
                self._take_back(message)

    # ---- stepping ----

    def _pick(self) -> ModelId:
        chosen, self._shares = policy.pick(self._shares, self._runnable())
        return chosen

    def _step(self, model: ModelId) -> None:
        lane = self._lanes[model]
        quantum_s = policy.quantum([other for other, its in self._lanes.items() if its.is_busy], self._quantum_s)
        lane.began_s = self._clock()
        if model in self._sides:
            self._sides[model].run(lambda: self._computed(lane.engine, quantum_s), self.send)
        else:
            self._take_back(self._computed(lane.engine, quantum_s))

    def _computed(self, engine: Engine, quantum_s: float | None) -> Returned:
        """On the loop thread, or on the engine's side thread."""
        outcome: Step | Exception
        try:
            outcome = engine.step(quantum_s)
        except Exception as error:  # noqa: BLE001 - the top of a step: lane.py makes failed tasks of it
            outcome = error
        return Returned(engine.model, outcome, self._clock())

    def _take_back(self, message: Returned) -> None:
        model, lane = message.model, self._lanes[message.model]
        assert lane.began_s is not None, f"a step of {model!r} came back that was not made: this is a bug"
        wall_s = message.ended_s - lane.began_s
        device_s = policy.device_seconds(wall_s, lane.engine.beside_threads, self._threads)
        lane.take_back(message.outcome, device_s)
        if model in self._closing:
            self._let_go(model)
            return
        self._shares = policy.charge(self._shares, model, device_s)
        if model in self._sides:  # what it could not use, having one step under way at a time, it is not owed later
            self._shares = policy.wake(self._shares, model)

    def _flush(self) -> None:
        if self._reports:
            self._report(self._reports.copy())
            self._reports.clear()
