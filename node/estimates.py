"""What a task would take if it were sent now, from the runs that are here. Pure but for the clock inside the runs.

Not about how a task's own cost is learned (the engines), nor about seats (scheduler/forecast.py) and who waits (crowd.py).
"""

from dataclasses import dataclass, replace

from node.crowd import Ahead
from node.entries import Entry
from node.memory.ledger import Decision, Evict, Refuse
from node.scheduler.forecast import Met, Paces, seat_free_s, shared_s
from protos.types import Estimate, Usage


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a task that came now would meet, at a model that is loaded."""

    queue_s: float  # until its seat
    run_s: float  # then until its end

    @property
    def eta_s(self) -> float:
        return self.queue_s + self.run_s


def met(entry: Entry, ahead: Ahead, *, others: int, expected_s: float) -> Met:
    """What a task meets that comes now. others: the other models at work. expected_s: what the task would take alone; 0:
    nobody knows."""
    mates = min(ahead.mates, entry.seats - 1)
    return Met(expected_s, mates, others, mates * _mean_s(ahead, expected_s))


def _mean_s(ahead: Ahead, most_s: float) -> float:
    """What one of those ahead is expected to take, but no more than `most_s`. Who is not prepared yet counts so much."""
    held, waiting = ahead.held, ahead.waiting
    count = held.count + waiting.count
    if not count:
        return most_s
    return min((held.count * held.mean_s(most_s) + waiting.count * waiting.mean_s(most_s)) / count, most_s)


def outlook(entry: Entry, ahead: Ahead, paces: Paces, its: Met) -> Outlook:
    """its: what the task meets."""
    if not its.expected_s:
        its = replace(its, expected_s=paces.usual_s, beside_s=its.mates * paces.usual_s)
    run_s = paces.of(its).held(its.shared_s) + (paces.after_s or 0.0)
    is_full = len(ahead.seated) + ahead.waiting.count >= entry.seats
    return Outlook(_seat_s(entry, ahead, paces, its) if is_full else paces.before_s(its), run_s)


def _seat_s(entry: Entry, ahead: Ahead, paces: Paces, its: Met) -> float:
    """Until a seat is free, which is taken at once: it is at the end of a step."""
    # One pace for all: they are many. Who is not prepared yet has no expectation of its own, and takes a seat all the same.
    seats, usual_s = entry.seats, paces.usual_s
    full = paces.of(Met(usual_s, seats - 1, its.others))
    crowded = _crowded_s(1.0, seats)
    now_s = ahead.seated[0].now_s if ahead.seated else 0.0
    left_s = full.lefts([((run.expected_s or usual_s) * crowded, now_s - run.seat_at_s) for run in ahead.seated])
    each_s = full.held(_crowded_s(ahead.waiting.mean_s(usual_s), seats))
    return seat_free_s(seats, left_s, ahead.waiting.count, each_s)


def _crowded_s(expected_s: float, seats: int) -> float:
    """Of a task all of whose mates want as much."""
    return shared_s(expected_s, (seats - 1) * expected_s)


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
