"""A device loop that is turned by hand, with fake engines, and a clock that only the fake devices move."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from node.engine import ModelSpec, Prepared
from node.engines.fake import FakeEngine, Faults
from node.scheduler.beside import Call
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Attach, Ended, Output, Report, Seated, Stepped, Submit
from protos.errors import FabricError
from protos.types import Modality, ModelId, OrganizationId, Task, TaskId, TextDelta, TextRequest

T = TypeVar("T")


@dataclass
class Under:
    """A call beside the loop that is under way."""

    model: ModelId
    began_s: float
    ends_s: float
    call: Call


class Guarded(FakeEngine):
    """Fails the test when anything is called of it while its step is under way beside the loop."""

    bench: "Bench"

    def admit(self, prepared: Prepared) -> bool:
        self._check()
        return super().admit(prepared)

    def cancel(self, task_id: TaskId) -> None:
        self._check()
        super().cancel(task_id)

    def close(self) -> None:
        self._check()
        super().close()

    def _check(self) -> None:
        assert self.model not in {call.model for call in self.bench.under_way}, "touched while its step is under way"


class VirtualSide:
    """See node.scheduler.beside.Side: a call is made when the bench's clock gets to its end."""

    def __init__(self, bench: "Bench", model: ModelId) -> None:
        self._bench, self._model = bench, model

    def run(self, call: Callable[[], T], then: Callable[[T], object]) -> None:
        ends_s = self._bench.now_s + self._bench.call_s[self._model]
        self._bench.under_way.append(Under(self._model, self._bench.now_s, ends_s, lambda: then(call())))

    def close(self) -> None:
        self._bench.closed_sides.append(self._model)


class Bench:
    """A loop, its engines, and all that it reported."""

    def __init__(self, threads: int = 1) -> None:
        self.now_s = 0.0
        self.reports: list[Report] = []
        self.calls = 0
        self.engines: dict[ModelId, FakeEngine] = {}
        self.call_s: dict[ModelId, float] = {}  # of a step beside the loop
        self.under_way: list[Under] = []
        self.past: list[Under] = []
        self.closed_sides: list[ModelId] = []
        self.released = 0  # how often the loop gave memory back
        self.loop = DeviceLoop(
            self._report,
            quantum_s=0.05,
            threads=threads,
            clock=lambda: self.now_s,
            new_side=lambda model: VirtualSide(self, model),
            release=self._release,
        )

    def _report(self, reports: Sequence[Report]) -> None:
        self.calls += 1
        self.reports.extend(reports)

    def _release(self) -> None:
        self.released += 1

    def pass_time(self, seconds: float) -> None:
        """Moves the clock; calls beside the loop that end meanwhile come back, in order."""
        until_s = self.now_s + seconds
        while due := [call for call in self.under_way if call.ends_s <= until_s]:
            first = min(due, key=lambda call: call.ends_s)
            self.now_s = max(self.now_s, first.ends_s)
            self.under_way.remove(first)
            self.past.append(first)
            first.call()
        self.now_s = until_s

    def attach(
        self,
        name: str = "m",
        *,
        step_s: float = 0.01,
        seats: int = 16,
        weight: float = 1.0,
        faults: Faults | None = None,
        beside_threads: int = 0,
    ) -> FakeEngine:
        spec = ModelSpec(id=ModelId(name), engine="fake", modality=Modality.TEXT, seats=seats)
        if beside_threads:
            engine: FakeEngine = Guarded(spec, step_s=step_s, faults=faults, beside_threads=beside_threads)
            engine.bench = self  # type: ignore[attr-defined]  # it is Guarded
            self.call_s[spec.id] = step_s
        else:
            engine = FakeEngine(spec, step_s=step_s, work=self.pass_time, faults=faults)
        self.engines[spec.id] = engine
        self.loop.send(Attach(engine, weight))
        return engine

    def submit(
        self,
        task_id: str,
        prompt: str = "one two three",
        *,
        model: str = "m",
        priority: int = 50,
        organization: str = "a",
    ) -> None:
        request = TextRequest(prompt=prompt)
        task = Task(
            id=TaskId(task_id), request=request, priority=priority, organization_id=OrganizationId(organization)
        )
        self.loop.send(Submit(ModelId(model), self.engines[ModelId(model)].prepare(task)))

    def turn(self, times: int = 1) -> None:
        """Where the loop would wait for a call beside it, so much time passes."""
        for _ in range(times):
            if self.loop.would_wait:
                assert self.under_way, "the loop would wait for ever"
                self.pass_time(min(call.ends_s for call in self.under_way) - self.now_s)
            assert self.loop.turn()

    def finish(self, *task_ids: str) -> None:
        """Turns until these have ended."""
        for _ in range(1000):
            if {TaskId(task_id) for task_id in task_ids} <= set(self.outcomes):
                return
            self.turn()
        raise AssertionError(f"{task_ids} did not end")

    def rest(self) -> None:
        """Turns until there is nothing left to do."""
        for _ in range(10_000):
            if self.loop.would_wait and not self.under_way:
                return
            self.turn()
        raise AssertionError("the loop did not come to rest")

    @property
    def outcomes(self) -> dict[TaskId, Ended]:
        return {report.task_id: report for report in self.reports if isinstance(report, Ended)}

    def failed(self) -> set[TaskId]:
        return {task_id for task_id, ended in self.outcomes.items() if isinstance(ended.outcome, FabricError)}

    def charged_s(self) -> dict[ModelId, float]:
        """Device seconds by model."""
        charged = dict.fromkeys(self.engines, 0.0)
        for report in self.reports:
            if isinstance(report, Stepped):
                charged[report.model] += report.device_s
        return charged

    def text_of(self, task_id: str) -> str:
        return "".join(
            r.event.text
            for r in self.reports
            if isinstance(r, Output) and r.task_id == task_id and isinstance(r.event, TextDelta)
        )

    def seated_order(self) -> list[TaskId]:
        return [report.task_id for report in self.reports if isinstance(report, Seated)]
