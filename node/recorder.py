"""Records what comes to a node as a trace, in a file of bounded size.

Not about what a line says (trace.py). Event loop only.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from node.engine import Done
from node.entries import Entry
from node.occupancy import Residency
from node.runs import Run
from node.scheduler.costs import StepCosts
from node.scheduler.messages import Ended, Stepped
from node.trace import SUCCEEDED, VERSION, CostsLine, Line, ModelLine, NodeLine, TaskLine, written
from protos.errors import FabricError
from protos.types import ModelId, OrganizationId, Task

log = logging.getLogger(__name__)

_COSTS_S: Final = 30.0  # between two lines about the costs of one model


@dataclass(slots=True)
class _Steps:
    """What was seen of one model's."""

    costs: StepCosts = field(default_factory=StepCosts)
    most_units: int = 0
    told_s: float = 0.0


class Recorder:
    """`limit_bytes` are shared by the file and the one before it, which is kept as FILE.1."""

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        *,
        capacity_bytes: int,
        threads: int,
        quantum_s: float,
        residency: Residency,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """Adds to what is there. Raises OSError when it cannot be written at all."""
        self._path, self._limit_bytes, self._clock = path, limit_bytes, clock
        self._offset_s = epoch() - clock()
        self._steps: dict[ModelId, _Steps] = {}
        self._organizations: dict[OrganizationId, int] = {}
        self._models: dict[ModelId, ModelLine] = {}
        self._node = NodeLine(
            at_s=self._now_s,
            version=VERSION,
            capacity_bytes=capacity_bytes,
            threads=threads,
            quantum_s=quantum_s,
            load_wait_s=residency.load_wait_s,
            load_retry_s=residency.load_retry_s,
            min_residency_s=residency.min_residency_s,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] | None = path.open(
            "a", encoding="utf-8", buffering=1
        )  # a line at a time: a crash cuts none
        self._size = self._file.tell()
        self._write(self._node)

    # ---- what happens ----

    def model(self, entry: Entry) -> None:
        """It is in the catalog, or was loaded."""
        spec = entry.spec
        line = ModelLine(
            at_s=self._now_s,
            model=spec.id,
            modality=spec.modality,
            seats=entry.engine.seats if entry.engine is not None else spec.seats,
            waiting_limit=spec.waiting_limit,
            weight=spec.weight,
            keep_alive_s=spec.keep_alive_s,
            pin=spec.pin,
            preload=spec.preload,
            beside_threads=entry.engine.beside_threads if entry.engine is not None else 0,
            bytes=entry.needed_bytes,
            load_s=entry.measured.load_s if entry.measured else None,
        )
        self._models[spec.id] = line
        self._write(line)

    def step(self, stepped: Stepped) -> None:
        steps = self._steps.setdefault(stepped.model, _Steps())
        if stepped.units:
            steps.costs.observe(stepped.units, stepped.device_s)
            steps.most_units = max(steps.most_units, stepped.units)
        if self._clock() - steps.told_s >= _COSTS_S:
            self._tell_costs(stepped.model)

    def ended(self, run: Run, error: FabricError | None) -> None:
        done = run.done.result() if run.done is not None and run.done.done() and not run.done.cancelled() else None
        timings = run.timings
        self._task(run.task, run.entry, error, done, timings.queued_s if run.is_seated else None, timings.total_s, run)

    def refused(self, task: Task, entry: Entry, error: FabricError) -> None:
        """At the door."""
        self._task(task, entry, error, None, None, 0.0, None)

    def close(self) -> None:
        for model in self._steps:
            self._tell_costs(model)
        if self._file is not None:
            self._file.close()
            self._file = None

    # ---- the file ----

    @property
    def _now_s(self) -> float:
        return round(self._clock() + self._offset_s, 6)

    def _task(  # noqa: PLR0917 - private, and each has another type
        self,
        task: Task,
        entry: Entry,
        error: FabricError | None,
        ended: Ended | None,
        waited_s: float | None,
        took_s: float,
        run: Run | None,
    ) -> None:
        assumed = run.prepared.usage if run is not None and run.prepared is not None else None
        used = ended.outcome.usage if ended is not None and isinstance(ended.outcome, Done) else None
        self._write(
            TaskLine(
                at_s=round(self._now_s - took_s, 6),
                model=entry.spec.id,
                modality=entry.spec.modality,
                organization=self._organizations.setdefault(task.organization_id, len(self._organizations) + 1),
                priority=task.priority,
                timeout_s=task.timeout_s,
                input=round(assumed.input_tokens or assumed.audio_seconds, 3) if assumed else 0.0,
                output=used.output_tokens or used.images if used else 0,
                steps=ended.steps if ended is not None else 0,
                units=ended.units if ended is not None else 0,
                device_s=round(ended.device_s, 6) if ended is not None else 0.0,
                waited_s=round(waited_s, 6) if waited_s is not None else None,
                took_s=round(took_s, 6),
                ended=SUCCEEDED if error is None else error.code,
            )
        )

    def _tell_costs(self, model: ModelId) -> None:
        steps = self._steps[model]
        if (line := steps.costs.line) is not None:
            steps.told_s = self._clock()
            self._write(
                CostsLine(
                    at_s=self._now_s,
                    model=model,
                    per_unit_s=line.per_unit_s,
                    fixed_s=line.fixed_s,
                    most_units=steps.most_units,
                )
            )

    def _write(self, line: Line) -> None:
        if self._file is None:
            return
        text = written(line) + "\n"
        try:
            if self._size and self._size + len(text) > self._limit_bytes // 2:
                self._rotate()
            self._file.write(text)
            self._size += len(text)
        except OSError as error:
            log.warning("the trace %s ends here: it cannot be written (%s)", self._path, error)
            self._file = None

    def _rotate(self) -> None:
        assert self._file is not None, "a closed trace is rotated: this is a bug"
        self._file.close()
        older = self._path.with_name(self._path.name + ".1")
        self._path.replace(older)
        log.info("the trace %s is full: it goes on, and what it had is in %s", self._path, older)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        lines: list[Line] = [self._node, *self._models.values()]
        head = "".join(written(line) + "\n" for line in lines)
        self._file.write(head)
        self._size = len(head)
