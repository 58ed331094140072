"""What a task would take if it were sent now, from the runs that are here. Pure but for the clock inside the runs.

Not about how a task's own cost is learned (the engines) nor about seats (scheduler/forecast.py).
"""

from collections.abc import Sequence

from node.entries import Entry
from node.memory.ledger import Decision, Evict, Refuse
from node.runs import Run
from node.scheduler.forecast import Pace, seat_free_s
from protos.types import Estimate, Usage


def before(runs: Sequence[Run], priority: int) -> list[Run]:
    """Those who wait for the same model and would go first; the turns of the organizations are not counted."""
    return [run for run in runs if not run.is_seated and run.task.priority >= priority]


def queue_s(entry: Entry, runs: Sequence[Run], priority: int, pace: Pace) -> float:
    """Until a task of that priority would get a seat of the model, which is loaded."""
    seats = entry.engine.seats if entry.engine is not None else entry.spec.seats
    seated_s = [run.expected_s * pace.stretch - run.seated_s for run in runs if run.is_seated]
    return seat_free_s(seats, seated_s, [run.expected_s * pace.stretch for run in before(runs, priority)])


def estimate_of(entry: Entry, usage: Usage, queued_s: float, decision: Decision) -> Estimate:
    """usage: as the engine assumes it; nothing while the model is not loaded, since nobody can count then."""
    is_loaded = entry.engine is not None
    load_s = entry.measured.load_s if entry.measured and not is_loaded else 0.0
    return Estimate(
        model=entry.spec.id,
        usage=usage,
        queue_s=queued_s,
        load_s=load_s,
        run_s=usage.device_seconds,
        total_s=queued_s + load_s + usage.device_seconds,
        fits_memory=is_loaded or not isinstance(decision, Refuse),
        would_evict=tuple(decision.models) if isinstance(decision, Evict) and not is_loaded else (),
    )
