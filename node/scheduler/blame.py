"""Which task made a step throw: bisection over those who can be put aside without loss. Pure.

A step that throws names no culprit, and there may be none: it is tried once more as it was (lane.py). Tasks that never sat in a good step are suspected first; a task that has shown its
caller no output can leave its seat and take it again later. Who is put aside comes back after the next good step, so each
culprit is found in about log2(suspects) throws and fails alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protos.types import TaskId


@dataclass(frozen=True, slots=True)
class Suspect:
    """A seated task as the court sees it."""

    task_id: TaskId
    good_steps: int  # that it sat in
    has_output: bool  # that its caller has seen


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do before the step is tried again with the rest."""

    aside: Sequence[TaskId] = ()  # lose their seat now and get it back after a good step
    guilty: Sequence[TaskId] = ()  # fail


def judge(seated: Sequence[Suspect]) -> Verdict:
    """What follows from a step of `seated` (at least one, in the order of admission) that threw."""
    newcomers = [s.task_id for s in seated if s.good_steps == 0]
    restartable = [s.task_id for s in seated if not s.has_output]
    suspects = newcomers or restartable
    if not suspects:  # all have streamed: none can be put aside without repeating itself
        return Verdict(guilty=[s.task_id for s in seated])
    if len(suspects) == 1:
        return Verdict(guilty=suspects)
    return Verdict(aside=suspects[len(suspects) // 2 :])
