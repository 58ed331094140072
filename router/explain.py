"""Why a job is where it is: what it waits for, when it should start and end, what was decided about it and why. Pure.

It decides nothing: it tells with the same functions what the queue, routing and the retries decide. Not about how what
it is told was found (api/explain.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from protos.errors import FabricError, NoProvider
from protos.types import Estimate
from router.jobs import TERMINAL, EventKind, Job, JobEvent, JobState, Json, error_json
from router.routing import RULE, NeverServed, Route
from router.spending import BudgetReserved
from router.store.base import QueuePlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """An attempt that this router makes now."""

    provider_id: str | None = None  # None: no place has it at this moment
    model: str | None = None
    position: int | None = None  # tasks before it at the place, when that took it
    has_started: bool = False
    began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known at `now`, UTC seconds. `route`: what routing would decide now, or why it cannot."""

    job: Job
    now: float
    events: Sequence[JobEvent]  # without its progress
    route: Route | FabricError
    place: QueuePlace | None = None
    room: int = 0  # jobs of its lane that a claim would take now
    dispatch: Dispatch | None = None
    given_back: FabricError | None = None  # why its last run here ended without a result
    estimate: Estimate | None = None  # at the place where it runs, or would go
    max_batch: int = 1  # of that place
    busy: str = ""  # what that place says of its load


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps a job from running. `until`: when that ends of itself."""

    code: str  # no_provider, budget, seat, retry_delay, claim, no_room, turn
    message: str
    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    number: int
    started_at: float | None = None
    ended_at: float | None = None
    provider_id: str | None = None
    node_id: str | None = None
    model: str | None = None
    cause: Json | None = None  # {code, message}: why it ended without a result
    again_at: float | None = None  # when the next one may begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    summary: str
    position: int | None  # in its queue, 1 is the next; None: it is in none
    hold: Hold | None
    expected_start_at: float | None  # of one that started: when it did
    expected_end_at: float | None  # of one that ended: when it did
    rule: str
    candidates: Sequence[Json]
    skipped: Sequence[Json]
    attempts: Sequence[AttemptRecord]


def explain(facts: Facts) -> Explanation:
    job, hold = facts.job, _hold(facts)
    start_at, end_at = _expected(facts, hold)
    candidates, skipped = _decision(facts)
    ahead = None if facts.place is None else facts.place.ahead
    return Explanation(
        summary=_summary(job, hold, start_at),
        position=None if ahead is None or job.state in TERMINAL else ahead + 1,
        hold=hold,
        expected_start_at=start_at,
        expected_end_at=end_at,
        rule=RULE,
        candidates=candidates,
        skipped=skipped,
        attempts=list(_attempts(facts)),
    )


# ---- what holds it ----


def _hold(facts: Facts) -> Hold | None:
    """What keeps it from running. Not what the queue does with it just now: one that waits for a place, or for its
    budget, is looked at again and again, and waits for the same thing during the look and between two."""
    place, dispatch = facts.place, facts.dispatch
    if facts.job.state in TERMINAL or place is None or (dispatch is not None and dispatch.has_started):
        return None
    if isinstance(facts.given_back, BudgetReserved) and (dispatch is None or dispatch.position is None):
        return Hold("budget", facts.given_back.message)
    if dispatch is not None and dispatch.provider_id is not None:
        return _seat(dispatch, facts.busy)
    if isinstance(facts.route, NoProvider) and not isinstance(facts.route, NeverServed):
        return Hold("no_provider", facts.route.message)
    if place.is_held:
        return Hold("claim", "a router has taken it and is about to send it")
    if place.ahead is None:
        return Hold("retry_delay", f"it waits before its next attempt{_last_cause(facts)}", place.due_at)
    if isinstance(facts.route, FabricError):
        return Hold("claim", f"it fails at its next attempt: {facts.route.message}")
    if facts.room == 0:
        return Hold("no_room", f"its place has as many jobs as keep it busy{_said(facts.busy)}")
    if place.ahead:
        return Hold("turn", f"{place.ahead} jobs of its queue go first: by priority, then fair among organizations")
    return Hold("claim", "it is the next of its queue and about to be taken")


def _seat(dispatch: Dispatch, busy: str) -> Hold:
    ahead = "" if dispatch.position is None else f", {dispatch.position} tasks were before it when it came"
    where = f"it waits at {dispatch.provider_id} for a seat of {dispatch.model}"
    return Hold("seat", f"{where}{ahead}{_said(busy)}")


def _said(busy: str) -> str:
    return f"; the place says: {busy}" if busy else ""


def _last_cause(facts: Facts) -> str:
    """As this router knows it, else as the events tell: one that spent no attempt has none."""
    causes = [event.payload.get("cause") for event in facts.events if event.kind is EventKind.RETRYING]
    cause = error_json(facts.given_back) if facts.given_back is not None else causes[-1] if causes else None
    return f": the last one ended with {cause['code']}: {cause['message']}" if cause else ""


# ---- when ----


def _expected(facts: Facts, hold: Hold | None) -> tuple[float | None, float | None]:
    """When it starts and ends, as far as anyone can tell."""
    job, estimate = facts.job, facts.estimate
    if job.state in TERMINAL:
        return job.started_at, job.completed_at
    if hold is None:
        return job.started_at, _end_of_running(facts)
    if estimate is None or isinstance(facts.route, FabricError):
        return None, None
    ahead = facts.place.ahead if facts.place is not None else None
    start_at = facts.now + estimate.queue_s + estimate.load_s + ahead_s(ahead or 0, estimate, facts.max_batch)
    start_at = max(start_at, hold.until or start_at)
    return start_at, start_at + estimate.run_s


def ahead_s(ahead: int, estimate: Estimate, max_batch: int) -> float:
    """Until those are through that are still before it in the router's queue, were they as long as it is."""
    return ahead * estimate.run_s / max(max_batch, 1)


_TELLING_PROGRESS: Final = 0.05  # before that it says more of the beginning than of the rest


def _end_of_running(facts: Facts) -> float | None:
    began_at = facts.dispatch.began_at if facts.dispatch is not None else facts.job.started_at
    if began_at is None:
        return None
    if facts.job.progress >= _TELLING_PROGRESS:
        return began_at + (facts.now - began_at) / facts.job.progress
    return None if facts.estimate is None else max(facts.now, began_at + facts.estimate.run_s)


# ---- what was decided ----


def _decision(facts: Facts) -> tuple[list[Json], list[Json]]:
    """Of a job that started: where it went and why, as its event has it. Of another: what would be decided now."""
    started = next((event.payload for event in facts.events if event.kind is EventKind.STARTED), None)
    if started is not None:
        taken = {"provider_id": started["provider_id"], "model": started["model"], "reason": started.get("reason", "")}
        return [taken, *_moved_on(facts.job, taken)], list(started.get("skipped", ()))
    if isinstance(facts.route, FabricError):
        skipped = facts.route.details.get("skipped", ())
        return [], list(skipped) if isinstance(skipped, Sequence) else []
    route = facts.route
    return (
        [{"provider_id": each.provider_id, "model": each.model, "reason": each.reason} for each in route.candidates],
        [{"provider_id": each.provider_id, "reason": each.reason} for each in route.skipped],
    )


def _moved_on(job: Job, first: Json) -> Iterator[Json]:
    """Where it is, or was last, when that is not where it first went; its usage has every call with its error."""
    if job.provider_id is None:  # it was read a moment before the event of its start
        return
    if (job.provider_id, job.model) != (first["provider_id"], first["model"]):
        reason = f"was asked when {first['model']} at {first['provider_id']} had failed"
        yield {"provider_id": job.provider_id, "model": job.model, "reason": reason}


def _attempts(facts: Facts) -> Iterator[AttemptRecord]:
    """Those that began, in order, as the events tell; the one that runs too."""
    running: AttemptRecord | None = None
    told = 0
    for event in facts.events:
        payload = event.payload
        match event.kind:
            case EventKind.STARTED:
                told += 1
                running = _record(told, payload, event.timestamp)
            case EventKind.RETRYING:
                told += running is None
                ended = running or AttemptRecord(number=told)
                running = None
                yield replace(ended, ended_at=event.timestamp, cause=payload["cause"], again_at=payload["not_before"])
            case EventKind.COMPLETED | EventKind.FAILED | EventKind.CANCELLED:
                ended = running or _record(told + 1, _where(facts.job))
                if running is not None or facts.job.attempts > told:
                    yield replace(ended, ended_at=event.timestamp, cause=payload.get("error"))
                return
    if running is not None:
        yield running
    elif facts.dispatch is not None and facts.dispatch.has_started:
        yield _record(told + 1, _where(facts.job), facts.dispatch.began_at)


def _record(number: int, where: Json, started_at: float | None = None) -> AttemptRecord:
    return AttemptRecord(
        number=number,
        started_at=started_at,
        provider_id=where.get("provider_id"),
        node_id=where.get("node_id"),
        model=where.get("model"),
    )


def _where(job: Job) -> Json:
    return {"provider_id": job.provider_id, "node_id": job.node_id, "model": job.model}


# ---- in one sentence ----


def _summary(job: Job, hold: Hold | None, start_at: float | None) -> str:
    if job.state in TERMINAL:
        why = f" with {job.error['code']}: {job.error['message']}" if job.error else ""
        where = f" at {job.provider_id}" if job.provider_id else ", never started"
        return f"the job has ended as {job.state}{where}{why}"
    if hold is None:
        return f"the job runs at {job.provider_id} with {job.model}" if job.state is JobState.STARTED else "it starts"
    late = job.deadline_at is not None and start_at is not None and start_at > job.deadline_at
    return hold.message + ("; it is expected to fail at its deadline before that" if late else "")
