"""What goes into the device loop and what comes out of it. Frozen; crosses threads.

Not about what the loop does with them (loop.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from node.engine import Done, Engine, Prepared, Step
from protos.errors import FabricError
from protos.types import ModelId, OrganizationId, Preview, Progress, SegmentDelta, TaskId, TextDelta

# ---- in ----


@dataclass(frozen=True, slots=True)
class Attach:
    """The engine is loaded and warm; from now on the loop thread owns it."""

    engine: Engine
    weight: float


@dataclass(frozen=True, slots=True)
class Detach:
    """End its tasks and forget the engine; `then` is called on the loop thread when nothing of it is called any more.

    Who sends it closes the engine, elsewhere: the loop has others to step meanwhile. A step that is under way beside the
    loop is waited for, without the loop.
    """

    model: ModelId
    then: Callable[[], object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Submit:
    """The task waits for a seat of `model`, which is attached."""

    model: ModelId
    prepared: Prepared

    @property
    def task_id(self) -> TaskId:
        return self.prepared.task.id

    @property
    def organization_id(self) -> OrganizationId:
        return self.prepared.task.organization_id

    @property
    def priority(self) -> int:
        return self.prepared.task.priority


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take the task out of its room or free its seat; nothing is reported of it after its Gone.

    The seat of a task in a step that is under way beside the loop is free when that step is back.
    """

    model: ModelId
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Recall:
    """Give back those who wait for a seat of `model`, each by a Recalled: it is to make room for another."""

    model: ModelId


@dataclass(frozen=True, slots=True)
class Stop:
    """Close all engines and end the thread."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A step of `model` has ended, on the loop's clock at `ended_s`. From the loop's side threads alone."""

    model: ModelId
    outcome: Step | Exception = field(repr=False)  # what it did, or what it raised
    ended_s: float


Message: TypeAlias = Attach | Detach | Submit | Cancel | Recall | Stop | Returned

# ---- out ----


@dataclass(frozen=True, slots=True)
class Entered:
    """The task entered its waiting room behind `position` others."""

    task_id: TaskId
    position: int


@dataclass(frozen=True, slots=True)
class Seated:
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Output:
    task_id: TaskId
    event: Progress | TextDelta | SegmentDelta | Preview


@dataclass(frozen=True, slots=True)
class Ended:
    """The task has left its seat. `outcome`: what the engine made of it, or why it failed."""

    task_id: TaskId
    outcome: Done | FabricError
    device_s: float
    steps: int = 0  # that it got work in
    units: int = 0  # of work that it got in them


@dataclass(frozen=True, slots=True)
class Recalled:
    """The task has left its room without a seat; it may be submitted again."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Gone:
    """The answer to each Cancel: what was reported of that id before belongs to the cancelled task, later to another."""

    task_id: TaskId


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step of `model`: how many seats it served, its units, and the device seconds that it is charged."""

    model: ModelId
    rows: int
    units: int
    device_s: float


Report: TypeAlias = Entered | Seated | Output | Ended | Recalled | Gone | Stepped
