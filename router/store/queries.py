"""The reads of the store, as statements. Each walks an index, also at a million jobs: tests/router/store/test_queries.py.

Select[Any]: what a row holds is not in its type.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select

from protos.types import OrganizationId
from router.jobs import EventKind, JobId
from router.store import tables
from router.store.base import QueuePlace
from router.store.dialect import fetch
from router.store.group import UNFINISHED, position_counter

_jobs, _events, _counters = tables.jobs, tables.events, tables.counters


def job(job_id: JobId) -> Select[Any]:
    return select(_jobs).where(_jobs.c.id == job_id)


# The queue: run together at each claim, so made once.

LANES: Final = 1000  # that one claim considers

FIRST_LANE_AFTER = select(func.min(_jobs.c.lane)).where(_jobs.c.turn.is_not(None), _jobs.c.lane > bindparam("lane"))
"""The next lane that has a queue: asked again for each, it costs one seek per lane, not one row per job."""

NEXT_DUE = select(func.min(_jobs.c.due_at)).where(_jobs.c.due_at.is_not(None))

NEXT_DEADLINE = select(func.min(_jobs.c.deadline_at)).where(_jobs.c.turn.is_not(None), _jobs.c.deadline_at.is_not(None))
"""When the next claim fails a job that still waits."""

AHEAD = select(func.count()).where(
    _jobs.c.lane == bindparam("lane"),
    _jobs.c.turn.is_not(None),
    or_(
        _jobs.c.priority > bindparam("priority"),
        and_(_jobs.c.priority == bindparam("priority"), _jobs.c.turn < bindparam("turn")),
        and_(
            _jobs.c.priority == bindparam("priority"), _jobs.c.turn == bindparam("turn"), _jobs.c.id < bindparam("id")
        ),
    ),
)
"""The jobs that a claim takes before this one. It walks the lane's part of the queue, which waiting_limit bounds."""

WAITING = select(func.count()).where(
    _jobs.c.lane == bindparam("lane"), _jobs.c.turn.is_not(None), _jobs.c.priority >= bindparam("priority")
)
"""The jobs that a claim takes before a new one of that priority; those who come later in their organization's turn too."""


def waiting(lane: str, priority: int) -> Callable[[Connection], int]:
    return lambda connection: connection.scalar(WAITING, {"lane": lane, "priority": priority}) or 0


PLACE = select(
    _jobs.c.id,
    _jobs.c.lane,
    _jobs.c.priority,
    _jobs.c.turn,
    _jobs.c.due_at,
    _jobs.c.lease_token.is_not(None).label("held"),
).where(_jobs.c.id == bindparam("id"))


def place(connection: Connection, job_id: JobId) -> QueuePlace | None:
    row = connection.execute(PLACE, {"id": job_id}).one_or_none()
    if row is None:
        return None
    waits = {"lane": row.lane, "priority": row.priority, "turn": row.turn, "id": row.id}
    ahead = None if row.turn is None else connection.scalar(AHEAD, waits)
    return QueuePlace(ahead=ahead, is_held=bool(row.held), due_at=row.due_at)


def lanes(connection: Connection) -> Sequence[str]:
    """Those with a job that can be claimed now, in alphabetical order."""
    found: list[str] = []
    [(lane,)] = fetch(connection, FIRST_LANE_AFTER, {"lane": ""})
    while lane is not None and len(found) < LANES:
        found.append(lane)
        [(lane,)] = fetch(connection, FIRST_LANE_AFTER, {"lane": lane})
    return found


def next_due(connection: Connection) -> float | None:
    [(due,)] = fetch(connection, NEXT_DUE)
    [(deadline,)] = fetch(connection, NEXT_DEADLINE)
    return min((moment for moment in (due, deadline) if moment is not None), default=None)


COUNT_UNFINISHED = select(_counters).where(_counters.c.name.in_([state.value for state in UNFINISHED]))
"""The counters that the writer keeps: counting rows would walk all that wait."""


def events_of_job(job_id: JobId, after: int, limit: int) -> Select[Any]:
    return select(_events).where(_events.c.job_id == job_id, _events.c.seq > after).order_by(_events.c.seq).limit(limit)


def turning_points(job_id: JobId) -> Select[Any]:
    return (
        select(_events)
        .where(_events.c.job_id == job_id, _events.c.kind != EventKind.PROGRESS.value)
        .order_by(_events.c.seq)
        .limit(TURNING_POINTS)
    )


TURNING_POINTS: Final = 100  # attempts are few


def events_of_organization(organization_id: OrganizationId, after: int, limit: int) -> Select[Any]:
    return (
        select(_events)
        .where(_events.c.organization_id == organization_id, _events.c.position > after)
        .order_by(_events.c.position)
        .limit(limit)
    )


def last_position(organization_id: OrganizationId) -> Select[Any]:
    return select(_counters.c.value).where(_counters.c.name == position_counter(organization_id))
