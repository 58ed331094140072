"""An engine that only takes time: each task its recorded steps and units, each step what such steps have cost.

Not about where the numbers come from (plan.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node.engine import Done, ModelSpec, Prepared, Step, StepEvent
from node.scheduler.costs import Line
from protos.errors import FabricError
from protos.types import EmbeddingResult, Modality, ModelId, Task, TaskId, TaskResult, Usage


@dataclass(frozen=True, slots=True)
class Needs:
    """What a task asks of the device."""

    steps: int = 1
    units: int = 1
    fault: FabricError | None = None  # it is refused when it is prepared

    def work(self, step: int, modality: Modality) -> int:
        """Units in that step of it. Text reads its prompt in the first and says one token in each; others go evenly."""
        if modality == Modality.TEXT:
            return max(1, self.units - self.steps + 1) if step == 0 else 1
        return max(1, self.units * (step + 1) // self.steps - self.units * step // self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a model behaves on its device."""

    cost: Line  # device seconds of a step
    most_units: int  # in one step
    peak_bytes: int
    load_s: float
    beside_threads: int = 0


class ReplayEngine:
    """See node/engine.py. A step serves as many of those seated as fit the quantum, who waited longest first."""

    context_tokens = 0

    def __init__(
        self,
        spec: ModelSpec,
        manner: Manner,
        needs: Callable[[TaskId], Needs],
        spend: Callable[[float], object],
        threads: int,
    ) -> None:
        """spend: takes the seconds of a step. threads: of the device."""
        self.model: ModelId = spec.id
        self.modality: Modality = spec.modality
        self.seats: int = spec.seats
        self.beside_threads = manner.beside_threads
        self._manner, self._needs, self._spend, self._threads = manner, needs, spend, threads
        self._seated: dict[TaskId, int] = {}  # and how many steps it had; who was served last is last

    @property
    def seated(self) -> int:
        return len(self._seated)

    def prepare(self, task: Task) -> Prepared:
        needs = self._needs(task.id)
        if needs.fault is not None:
            raise needs.fault
        cost = self._manner.cost
        usage = Usage(device_seconds=cost.per_unit_s * needs.units + cost.fixed_s * needs.steps)
        return Prepared(task=task, usage=usage, payload=None)

    def admit(self, prepared: Prepared) -> bool:
        if len(self._seated) >= self.seats:
            return False
        self._seated[prepared.task.id] = 0
        return True

    def step(self, quantum_s: float | None) -> Step:
        work = self._served(self._bound(quantum_s))
        device_s = self._manner.cost.per_unit_s * sum(work.values()) + self._manner.cost.fixed_s
        beside = self._manner.beside_threads
        self._spend(device_s * self._threads / beside if beside else device_s)
        events: list[tuple[TaskId, StepEvent]] = []
        for task_id in work:
            had = self._seated.pop(task_id) + 1
            if had < self._needs(task_id).steps:
                self._seated[task_id] = had
            else:
                events.append((task_id, Done(None, Usage())))
        return Step(work, events)

    def _bound(self, quantum_s: float | None) -> int:
        cost = self._manner.cost
        if quantum_s is None or cost.per_unit_s <= 0:
            return self._manner.most_units
        return min(self._manner.most_units, int((quantum_s - cost.fixed_s) / cost.per_unit_s))

    def _served(self, bound: int) -> Mapping[TaskId, int]:
        """At least one."""
        work: dict[TaskId, int] = {}
        left = bound
        for task_id, had in self._seated.items():
            units = self._needs(task_id).work(had, self.modality)
            if work and units > left:
                break
            work[task_id] = units
            left -= units
        return work

    def cancel(self, task_id: TaskId) -> None:
        self._seated.pop(task_id, None)

    def finish(self, raw: None) -> TaskResult:  # noqa: ARG002 - there is nothing to make of it
        return EmbeddingResult(0, b"")

    def warm_up(self) -> None:
        pass

    def held_bytes(self) -> int:
        return self._manner.peak_bytes

    def close(self) -> None:
        pass
