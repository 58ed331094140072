"""The device loop: one thread that owns the device and steps the engine whose turn it is.

Not about turns (policy.py) nor about what a step does for whom (lane.py); nor about loading models (registry.py).
"""

import logging
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, assert_never

from node.engine import Engine, Step
from node.scheduler import policy
from node.scheduler.beside import Side, SideThread
from node.scheduler.lane import Lane
from node.scheduler.messages import Attach, Cancel, Detach, Gone, Message, Report, Returned, Stop, Submit
from protos.types import ModelId

log = logging.getLogger(__name__)

_STOP_S: Final = (
    5.0  # for steps under way beside the loop when it ends; the longest CTranslate2 call measured took 2.9 s
)


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
        clock: Callable[[], float] = time.perf_counter,
        new_side: Callable[[ModelId], Side] = SideThread,
    ) -> None:
        """threads: of the device, which a second of the loop thread uses. clock: read by all threads."""
        self._report, self._quantum_s, self._threads, self._clock = report, quantum_s, threads, clock
        self._new_side = new_side
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._lanes: dict[ModelId, Lane] = {}
        self._sides: dict[ModelId, Side] = {}  # of the engines that compute beside the loop
        self._closing: dict[ModelId, Callable[[], object]] = {}  # detached during a step: what to call when they closed
        self._shares = policy.Shares()
        self._reports: list[Report] = []
        self._is_stopped = False

    def send(self, message: Message) -> None:
        self._inbox.put(message)

    @property
    def would_wait(self) -> bool:
        """A turn now would wait for a message. For who turns the loop on a clock of its own."""
        return self._inbox.empty() and not self._can_move()

    def run(self) -> None:
        """Until Stop. Blocks only when there is nothing to step and nobody to seat."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Takes the messages in, seats all that fits, makes or launches one step. False: stopped."""
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
                self._handle(self._inbox.get(block=block))
                block = False
        except Empty:
            return

    def _handle(self, message: Message) -> None:
        match message:
            case Submit():
                self._lanes[message.model].enter(message)
            case Cancel(model, task_id):
                if model in self._lanes:
                    self._lanes[model].cancel(task_id)
                self._reports.append(Gone(task_id))
            case Returned():
                self._take_back(message)
            case Attach(engine, weight):
                self._attach(engine, weight)
            case Detach(model, then):
                self._detach(model, then)
            case Stop():
                self._is_stopped = True
                for model in [model for model in self._lanes if model not in self._closing]:
                    self._detach(model, lambda: None)
            case _:
                assert_never(message)

    def _attach(self, engine: Engine, weight: float) -> None:
        model = engine.model
        assert model not in self._lanes, f"model {model!r} was attached before it was closed: this is a bug"
        self._lanes[model] = Lane(engine, self._reports.append)
        self._shares = policy.join(self._shares, model, weight)
        if engine.beside_threads:
            self._sides[model] = self._new_side(model)

    def _detach(self, model: ModelId, then: Callable[[], object]) -> None:
        """Its tasks end now; it closes now, or when the step that is under way is back."""
        self._lanes[model].dismiss()
        self._shares = policy.leave(self._shares, model)
        self._closing[model] = then
        if not self._lanes[model].is_stepping:
            self._close(model)

    def _close(self, model: ModelId) -> None:
        if model in self._sides:
            self._sides.pop(model).close()
        self._lanes.pop(model).engine.close()
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
            self._sides[model].run(lambda: self._inbox.put(self._computed(lane.engine, quantum_s)))
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
            self._close(model)
            return
        self._shares = policy.charge(self._shares, model, device_s)
        if model in self._sides:  # what it could not use, having one step under way at a time, it is not owed later
            self._shares = policy.wake(self._shares, model)

    def _flush(self) -> None:
        if self._reports:
            self._report(self._reports.copy())
            self._reports.clear()
