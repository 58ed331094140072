"""Engines that break now and then: a real one whose step raises, for no fault of anybody's or because of a poison task.

Not about what is asked (mix.py) nor about what came of it (tally.py).
"""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from node.engine import DeviceSpec, Engine, LoadEngine, ModelSpec, Prepared, Step
from protos.types import Modality, ModelId, TaskId, TaskResult

POISON: Final = "poison-"  # how the id of a task begins that makes every step throw that it sits in
_EVERY: Final = 60  # steps between two that throw for no fault of anybody's, on average


class Broken(RuntimeError):
    """A step that was told to throw."""


@dataclass(slots=True)
class Throws:
    """How often the steps of one model threw."""

    by_chance: int = 0
    by_poison: int = 0


class Faulty:
    """See node/engine.py: `inner` with steps that throw, before they did anything."""

    def __init__(self, inner: Engine, chance: random.Random, throws: Throws) -> None:
        self._inner, self._chance, self._throws = inner, chance, throws
        self._poison: set[TaskId] = set()
        self._left = self._next()

    def _next(self) -> int:
        return self._chance.randint(1, 2 * _EVERY)

    def admit(self, prepared: Prepared) -> bool:
        has_seat = self._inner.admit(prepared)
        if has_seat and prepared.task.id.startswith(POISON):
            self._poison.add(prepared.task.id)
        return has_seat

    def cancel(self, task_id: TaskId) -> None:
        self._poison.discard(task_id)
        self._inner.cancel(task_id)

    def step(self, quantum_s: float | None) -> Step:
        if self._poison:
            self._throws.by_poison += 1
            raise Broken(f"tasks {sorted(self._poison)} are poison")
        self._left -= 1
        if not self._left:
            self._left = self._next()
            self._throws.by_chance += 1
            raise Broken("by chance")
        return self._inner.step(quantum_s)

    # ---- as it is ----

    @property
    def model(self) -> ModelId:
        return self._inner.model

    @property
    def modality(self) -> Modality:
        return self._inner.modality

    @property
    def seats(self) -> int:
        return self._inner.seats

    @property
    def seated(self) -> int:
        return self._inner.seated

    @property
    def context_tokens(self) -> int:
        return self._inner.context_tokens

    @property
    def beside_threads(self) -> int:
        return self._inner.beside_threads

    def prepare(self, task: Any) -> Prepared:  # Any: as the engine takes it
        return self._inner.prepare(task)

    def finish(self, raw: Any) -> TaskResult:  # Any: the engine's own
        return self._inner.finish(raw)

    def warm_up(self) -> None:
        self._inner.warm_up()

    def held_bytes(self) -> int:
        return self._inner.held_bytes()

    def close(self) -> None:
        self._inner.close()


def faulty_loader(
    real: Callable[[str], LoadEngine], seed: int, throws: Mapping[ModelId, Throws]
) -> Callable[[str], LoadEngine]:
    """Loads what `real` loads, each engine with faults of its own."""
    numbers = itertools.count()

    def loader(name: str) -> LoadEngine:
        load = real(name)

        def load_faulty(spec: ModelSpec, device: DeviceSpec) -> Engine:
            chance = random.Random(f"{seed} {spec.id} {next(numbers)}")
            return Faulty(load(spec, device), chance, throws[spec.id])

        return load_faulty

    return loader
