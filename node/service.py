"""The asyncio side of a node: accepts tasks, moves each to its end, and says how the node is.

Knows no gRPC (rpc.py), owns no model (registry.py) and no device (scheduler/loop.py).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import replace
from typing import assert_never

from node import estimates
from node.contract import check_new, check_same, check_task
from node.crowd import Crowd
from node.engine import Done, Engine, Prepared, is_light
from node.entries import Entry
from node.metrics import Meter
from node.pulse import pulse_of, unready_reason
from node.recorder import Recorder
from node.registry import Registry
from node.runs import Run
from node.scheduler.forecast import Paces
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Cancel, Ended, Entered, Gone, Output, Recalled, Report, Seated, Stepped, Submit
from protos.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    FabricError,
    Internal,
    NotFound,
    Overloaded,
)
from protos.types import (
    Device,
    Estimate,
    Finished,
    Model,
    ModelId,
    ModelState,
    NodeId,
    NodeStatus,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TaskResult,
    Usage,
)

log = logging.getLogger(__name__)


class NodeService:
    """All calls on one event loop. `on_reports` is what the device loop's reports are to be handed to, on that loop."""

    def __init__(
        self,
        node_id: NodeId,
        *,
        registry: Registry,
        device_loop: DeviceLoop,
        pool: Executor,
        describe: Callable[[], Device],
        stall_s: float,
        version: str,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """recorder: keeps a trace of what comes. pool: where requests are prepared and results finished. describe: the device, now."""
        self._node_id, self._registry, self._loop, self._pool = node_id, registry, device_loop, pool
        self._describe, self._stall_s, self._version, self._clock = describe, stall_s, version, clock
        self._recorder = recorder
        self._began_s = clock()
        self._runs: dict[TaskId, Run] = {}
        self._meters = {entry.spec.id: Meter(clock) for entry in registry.entries}
        self._paces = {entry.spec.id: Paces() for entry in registry.entries}
        self._crowds = {entry.spec.id: Crowd(entry) for entry in registry.entries}
        self._leaving: Counter[TaskId] = Counter()  # cancels not answered by the device loop: their reports are stale
        self._is_draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._changed = asyncio.Event()  # replaced at each ring

    # ---- tasks ----

    async def execute(self, task: Task) -> AsyncGenerator[TaskEvent, None]:
        """The events of the task, Finished last. Joins it when it already runs. Raises the FabricError that ended it.

        Close the iterator to go away; the task is cancelled when its last caller has.
        """
        run = self._joined(task) or self._accepted(task)
        async with aclosing(run.audience.listen(lambda: self._deserted(run))) as events:
            async for event in events:
                yield event

    async def cancel(self, task_id: TaskId) -> None:
        """Ends the task. Raises NotFound when it does not run or wait here."""
        run = self._runs.get(task_id)
        if run is None:
            raise NotFound(f"no task {task_id!r} runs or waits on this node: it has ended, or never came")
        self._interrupt(run, Cancelled(f"task {task_id!r} was cancelled by request"))

    async def estimate(self, task: Task) -> Estimate:
        """What the task would take if it were sent now. Raises what it would raise then, but for overload."""
        check_task(task)
        entry = self._registry.find(task.model, task.modality)
        usage = Usage()
        if entry.engine is not None:
            usage = (await self._prepared(entry.engine, task)).usage
        ahead = self._crowds[entry.spec.id].ahead(task.priority)
        its = estimates.met(entry, ahead, others=self._others(entry), expected_s=usage.device_seconds)
        outlook = estimates.outlook(entry, ahead, self._paces[entry.spec.id], its)
        return estimates.estimate_of(entry, usage, outlook, self._registry.decision(entry))

    def _joined(self, task: Task) -> Run | None:
        run = self._runs.get(task.id)
        if run is not None:
            check_same(run.task, task)
        return run

    def _accepted(self, task: Task) -> Run:
        """A new run, on its way. Raises what refuses it at the door."""
        if self._is_draining:
            raise Draining(
                f"node {self._node_id} is shutting down: send task {task.id!r} to another", retry_after_s=1.0
            )
        check_new(task)
        entry = self._registry.find(task.model, task.modality)
        self._check_room(task, entry)
        run = self._runs[task.id] = Run(task, entry, self._clock)
        self._crowds[entry.spec.id].come(run)
        self._empty.clear()
        run.work = asyncio.create_task(self._carry(run), name=f"task {task.id}")
        if task.timeout_s is not None:
            timer = asyncio.get_running_loop().call_later(task.timeout_s, self._time_out, run)
            run.work.add_done_callback(lambda _: timer.cancel())
        return run

    def _check_room(self, task: Task, entry: Entry) -> None:
        try:
            self._crowds[entry.spec.id].check_room()
        except Overloaded as error:
            if self._recorder is not None:
                self._recorder.refused(task, entry, error)
            raise

    async def _carry(self, run: Run) -> None:
        """Moves a run from its acceptance to its end. Cancelled by _interrupt, which has ended it then."""
        try:
            finished = await self._work(run)
        except FabricError as error:
            self._end(run, error)
        except Exception:  # the top of a task: it becomes a failed one and one log line
            log.exception("task %s failed", run.task.id)
            self._end(
                run, Internal(f"task {run.task.id!r} failed on node {self._node_id}: its log has the stack trace")
            )
        else:
            run.finish(finished)
            self._forget(run, None)
            model = run.entry.spec.id
            self._paces[model] = self._paces[model].sent(run.seated_s - run.held_s)

    async def _work(self, run: Run) -> Finished:
        entry = run.entry
        if entry.state != ModelState.READY:
            run.queue(self._crowds[entry.spec.id].ahead(run.task.priority, but=run).waiting.count)
        while (finished := await self._turn(run)) is None:
            pass  # its model made room for another before there was a seat: it waits for the next turn of that model
        return finished

    async def _turn(self, run: Run) -> Finished | None:
        """From the loaded model to the result; None when the model is wanted away before the task has a seat."""
        loop, entry = asyncio.get_running_loop(), run.entry
        async with self._registry.lend(entry) as engine:
            run.loaded()
            prepared = await self._prepared(engine, run.task)
            self._crowds[entry.spec.id].prepare(run, prepared)
            if self._registry.is_claimed(entry):
                return None
            self._foresee(run)
            run.done = loop.create_future()
            self._loop.send(Submit(entry.spec.id, prepared))
            ended = await run.done
            if ended is None:
                return None
            if not isinstance(ended.outcome, Done):
                raise ended.outcome
            result = ended.outcome.raw
            if not isinstance(result, TaskResult):
                result = await loop.run_in_executor(self._pool, engine.finish, result)
        return Finished(result, replace(ended.outcome.usage, device_seconds=ended.device_s), run.timings)

    async def _prepared(self, engine: Engine, task: Task) -> Prepared:
        if is_light(task.request):
            return engine.prepare(task)
        return await asyncio.get_running_loop().run_in_executor(self._pool, engine.prepare, task)

    # ---- the end of a task ----

    def _deserted(self, run: Run) -> None:
        self._interrupt(run, Cancelled(f"task {run.task.id!r} was cancelled: its last caller went away"))

    def _interrupt(self, run: Run, error: FabricError) -> None:
        """Ends a run early, whatever it is doing. Its seat is free before the next step."""
        if run.audience.is_over:
            return
        if run.is_on_device:
            self._loop.send(Cancel(run.entry.spec.id, run.task.id))
            self._leaving[run.task.id] += 1
        self._end(run, error)
        assert run.work is not None, "an accepted run without its work: this is a bug"
        run.work.cancel()

    def _time_out(self, run: Run) -> None:
        where = f"it had its seat for {run.seated_s:.3g} s" if run.is_seated else "it still waited for a seat"
        limit = f"task {run.task.id!r} did not end within its timeout of {run.task.timeout_s} s: {where}"
        self._interrupt(run, DeadlineExceeded(limit))

    def _end(self, run: Run, error: FabricError) -> None:
        run.fail(error)
        self._forget(run, error)

    def _forget(self, run: Run, error: FabricError | None) -> None:
        del self._runs[run.task.id]
        self._meters[run.entry.spec.id].end(error)
        if self._recorder is not None:
            self._recorder.ended(run, error)
        self._crowds[run.entry.spec.id].leave(run)
        if not self._runs:
            self._empty.set()

    # ---- what the device loop says ----

    def on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            if isinstance(report, Stepped):
                self._meters[report.model].step(report)
                if self._recorder is not None:
                    self._recorder.step(report)
            elif isinstance(report, Gone):
                self._answered(report.task_id)
            elif report.task_id not in self._leaving and (run := self._runs.get(report.task_id)) is not None:
                self._apply(run, report)

    def _answered(self, cancelled: TaskId) -> None:
        self._leaving[cancelled] -= 1
        if not self._leaving[cancelled]:
            del self._leaving[cancelled]

    def _apply(self, run: Run, report: Entered | Seated | Output | Ended | Recalled) -> None:
        match report:
            case Entered(_, position):
                run.queue(position)
            case Seated():
                self._crowds[run.entry.spec.id].seat(run)
                run.start(Started(self._node_id, run.entry.spec.id))
                if run.found_seat:
                    model = run.entry.spec.id
                    self._paces[model] = self._paces[model].seated(run.met, run.waited_s)
            case Output(_, event):
                run.output(event)
            case Ended():
                assert run.done is not None, "a task ended on the device before it was sent there: this is a bug"
                self._crowds[run.entry.spec.id].leave(run)
                run.done.set_result(report)
                self._learn(run, report)
            case Recalled():
                assert run.done is not None, "a task was given back before it was sent to the device: this is a bug"
                run.done.set_result(None)
            case _:
                assert_never(report)

    def _learn(self, run: Run, ended: Ended) -> None:
        """How long it held its seat: what estimates of the wait for one go by."""
        if isinstance(ended.outcome, Done) and run.is_seated:
            model, run.held_s = run.entry.spec.id, run.seated_s
            self._paces[model] = self._paces[model].plus(run.met, run.held_s)

    def _others(self, entry: Entry) -> int:
        """The other models that are at work."""
        return sum(1 for crowd in self._crowds.values() if crowd.seated and crowd.entry is not entry)

    def _foresee(self, run: Run) -> None:
        """When a run should end that is sent to the device loop now, which may be in the middle of a step."""
        entry = run.entry
        ahead = self._crowds[entry.spec.id].ahead(run.task.priority, but=run)
        met = estimates.met(entry, ahead, others=self._others(entry), expected_s=run.expected_s)
        eta_s = estimates.outlook(entry, ahead, self._paces[entry.spec.id], met).eta_s
        run.send(met, eta_s, found_seat=ahead.mates < entry.seats)

    # ---- models ----

    def models(self) -> Sequence[Model]:
        return [entry.model for entry in self._registry.entries]

    async def load(self, model: ModelId) -> Model:
        """Returns when the model is ready. Raises ModelNotFound, LoadFailed or DoesNotFit."""
        entry = self._registry.find(model)
        await self._registry.loaded(entry)
        return entry.model

    async def unload(self, model: ModelId) -> Model:
        """Returns when the memory is free. Raises ModelNotFound, or Conflict while the model has tasks."""
        entry = self._registry.find(model)
        await self._registry.unload(entry)
        return entry.model

    # ---- status ----

    def status(self) -> NodeStatus:
        pulses = [pulse_of(crowd, self._meters[model]) for model, crowd in self._crowds.items()]
        reason = unready_reason(pulses, self._stall_s, is_draining=self._is_draining, call=self._loop.longest_call())
        return NodeStatus(
            node_id=self._node_id,
            device=self._describe(),
            models=[pulse.status for pulse in pulses],
            ready=not reason,
            reason=reason,
            draining=self._is_draining,
            uptime_s=self._clock() - self._began_s,
            version=self._version,
        )

    async def watch(self, interval_s: float) -> AsyncGenerator[NodeStatus, None]:
        """The status now, then at every interval, and at once when a model changes its state."""
        while True:
            changed = self._changed
            yield self.status()
            try:
                async with asyncio.timeout(interval_s):
                    await changed.wait()
            except TimeoutError:
                continue

    def ring(self) -> None:
        """Something changed that those who watch want to know at once."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ---- the end of the node ----

    async def drain(self, timeout_s: float) -> int:
        """Refuses new tasks, sends those without a seat away, lets the seated end; cancels what is left, and counts it."""
        self._is_draining = True
        self.ring()
        for run in [run for run in self._runs.values() if not run.is_seated]:
            self._interrupt(
                run, Draining(f"node {self._node_id} is shutting down: send task {run.task.id!r} to another")
            )
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = list(self._runs.values())
        for run in left:
            self._interrupt(run, Cancelled(f"task {run.task.id!r} was cancelled: node {self._node_id} shut down"))
        return len(left)
