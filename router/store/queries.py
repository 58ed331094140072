"""The reads of the store, as statements. Each walks an index, also at a million jobs: tests/router/store/test_queries.py.

Select[Any]: what a row holds is not in its type.
"""

from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from protos.types import OrganizationId
from router.jobs import JobId, first_id_at
from router.store import tables
from router.store.base import JobFilter, Queue
from router.store.group import UNFINISHED, position_counter

_jobs, _events, _counters = tables.jobs, tables.events, tables.counters


def job(job_id: JobId) -> Select[Any]:
    return select(_jobs).where(_jobs.c.id == job_id)


def job_list(wanted: JobFilter) -> Select[Any]:
    """Newest first: ids are ULIDs. `since` is a bound on them too, so that it needs no index of its own."""
    statement = select(_jobs).where(_jobs.c.organization_id == wanted.organization_id)
    for column, value in (
        (_jobs.c.state, wanted.status),
        (_jobs.c.modality, wanted.modality),
        (_jobs.c.tier, wanted.tier),
        (_jobs.c.model, wanted.model),
    ):
        if value is not None:
            statement = statement.where(column == str(value))
    if wanted.since is not None:
        statement = statement.where(_jobs.c.id >= first_id_at(wanted.since))
    if wanted.before is not None:
        statement = statement.where(_jobs.c.id < wanted.before)
    return statement.order_by(_jobs.c.id.desc()).limit(wanted.limit)


# The queue: run together after each change of it, so made once.

FIRST_LANE_AFTER = select(func.min(_jobs.c.lane)).where(_jobs.c.turn.is_not(None), _jobs.c.lane > bindparam("lane"))
"""The next lane that has a queue: asked again for each, it costs one seek per lane, not one row per job."""

DUE_LANES = select(_jobs.c.lane).where(_jobs.c.due_at <= bindparam("now")).limit(bindparam("limit"))
"""The lanes of jobs that the next claim puts back into the queue."""

NEXT_DUE = select(func.min(_jobs.c.due_at)).where(_jobs.c.due_at.is_not(None))


def queue(connection: Connection, now: float, limit: int) -> Queue:
    next_due = connection.scalar(NEXT_DUE)
    lanes: set[str] = set()
    if next_due is not None and next_due <= now:
        lanes.update(connection.scalars(DUE_LANES, {"now": now, "limit": limit}))
    lane = connection.scalar(FIRST_LANE_AFTER, {"lane": ""})
    while lane is not None and len(lanes) < limit:
        lanes.add(lane)
        lane = connection.scalar(FIRST_LANE_AFTER, {"lane": lane})
    return Queue(sorted(lanes), next_due)


COUNT_UNFINISHED = select(_counters).where(_counters.c.name.in_([state.value for state in UNFINISHED]))
"""The counters that the writer keeps: counting rows would walk all that wait."""


def events_of_job(job_id: JobId, after: int, limit: int) -> Select[Any]:
    return select(_events).where(_events.c.job_id == job_id, _events.c.seq > after).order_by(_events.c.seq).limit(limit)


def events_of_organization(organization_id: OrganizationId, after: int, limit: int) -> Select[Any]:
    return (
        select(_events)
        .where(_events.c.organization_id == organization_id, _events.c.position > after)
        .order_by(_events.c.position)
        .limit(limit)
    )


def last_position(organization_id: OrganizationId) -> Select[Any]:
    return select(_counters.c.value).where(_counters.c.name == position_counter(organization_id))
