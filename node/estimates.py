"""What a task would take if it were sent now, from the runs that are here. Pure but for the clock inside the runs.

Not about how a task's own cost is learned (the engines) nor about seats (scheduler/forecast.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from node.entries import Entry
from node.memory.ledger import Decision, Evict, Refuse
from node.runs import Run
from node.scheduler.forecast import Crowd, Paces, seat_free_s
from protos.types import Estimate, Usage


def before(runs: Sequence[Run], priority: int) -> list[Run]:
    """Those who wait for the same model and would go first; the turns of the organizations are not counted."""
    return [run for run in runs if not run.is_seated and run.task.priority >= priority]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a task that came now would meet, at a model that is loaded."""

    queue_s: float  # until its seat
    run_s: float  # then until its end

    @property
    def eta_s(self) -> float:
        return self.queue_s + self.run_s


def outlook(
    entry: Entry, runs: Sequence[Run], paces: Paces, *, others: int, priority: int, expected_s: float
) -> Outlook:
    """runs: of the same model, without the task itself. others: the other models at work. expected_s: what the task would
    take alone; 0: nobody knows, then what is usual."""
    seats = entry.engine.seats if entry.engine is not None else entry.spec.seats
    seated = [run for run in runs if run.is_seated]
    ahead = before(runs, priority)
    now, full = paces.of(Crowd(max(len(seated), 1), others)), paces.of(Crowd(seats, others))
    left_s = [now.left(run.expected_s or now.usual_s, run.seated_s) for run in seated]
    # Who has not been prepared yet has no expectation of its own, and takes a seat all the same.
    waiting_s = [full.held(run.expected_s or full.usual_s) for run in ahead]
    its = paces.of(Crowd(min(len(runs) + 1, seats), others))
    run_s = its.held(expected_s or its.usual_s) + (paces.after_s or 0.0)
    return Outlook(seat_free_s(seats, left_s, waiting_s) + (paces.before_s or 0.0), run_s)


def estimate_of(entry: Entry, usage: Usage, ahead: Outlook, decision: Decision) -> Estimate:
    """usage: as the engine assumes it, at its bound; nothing while the model is not loaded, since nobody can count then."""
    is_loaded = entry.engine is not None
    load_s = entry.measured.load_s if entry.measured and not is_loaded else 0.0
    return Estimate(
        model=entry.spec.id,
        usage=usage,
        queue_s=ahead.queue_s,
        load_s=load_s,
        run_s=ahead.run_s,
        total_s=ahead.queue_s + load_s + ahead.run_s,
        fits_memory=is_loaded or not isinstance(decision, Refuse),
        would_evict=tuple(decision.models) if isinstance(decision, Evict) and not is_loaded else (),
    )
