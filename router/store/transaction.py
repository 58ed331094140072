"""One transaction: reads the rows that its operations need, lets them decide, writes what changed, then claims.

A handful of statements for the whole group, whatever its size: the reads are sets, the writes executemany. An IN of
unknown length is used in reads only: in an executemany it would make one statement per row. Runs on the writer's thread.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, insert, null, select, update

from protos.errors import FabricError
from router.jobs import Job, JobEvent, JobId, JobState
from router.store import queries, tables, usage
from router.store.base import Claimed, Lease, Room
from router.store.dialect import execute_many, fetch
from router.store.group import (
    FRONT,
    UNFINISHED,
    Group,
    IdempotencyKey,
    Standing,
    Turns,
    position_counter,
    unfinished_counter,
)
from router.store.operations import Create, Expire, Operation, Requeue
from router.store.rows import event_columns, job_from

KEYS: Final = 256  # looked up by one statement
REQUEUED_AT_ONCE: Final = 500  # jobs that one claim takes back; a claim after it takes the rest

_jobs, _events, _counters = tables.jobs, tables.events, tables.counters
_STANDING: Final = Standing._fields  # its public name, in spite of the underscore

DUE = (
    select(*(_jobs.c[name] for name in _STANDING))
    .where(_jobs.c.due_at <= bindparam("now"))
    .order_by(_jobs.c.due_at)
    .limit(REQUEUED_AT_ONCE)
)
OVERDUE = (
    select(*(_jobs.c[name] for name in _STANDING))
    .where(_jobs.c.deadline_at <= bindparam("now"), _jobs.c.turn.is_not(None))
    .order_by(_jobs.c.deadline_at)
    .limit(REQUEUED_AT_ONCE)
)
ORIGINAL = select(_jobs).where(
    _jobs.c.organization_id == bindparam("organization_id"), _jobs.c.idempotency_key == bindparam("key")
)
LOWEST_TURN = select(func.min(_jobs.c.turn)).where(
    _jobs.c.lane == bindparam("lane"), _jobs.c.priority == bindparam("priority"), _jobs.c.turn > FRONT
)
HIGHEST_TURN = select(func.max(_jobs.c.turn)).where(
    _jobs.c.lane == bindparam("lane"),
    _jobs.c.priority == bindparam("priority"),
    _jobs.c.organization_id == bindparam("organization_id"),
    _jobs.c.turn.is_not(None),
)
NEXT_IN_LANE = (
    select(_jobs)
    .where(_jobs.c.lane == bindparam("lane"), _jobs.c.turn.is_not(None))
    .order_by(_jobs.c.priority.desc(), _jobs.c.turn, _jobs.c.id)
    .limit(bindparam("room"))
)

INSERT_JOB = insert(_jobs)
INSERT_EVENT = insert(_events)
INSERT_COUNTER = insert(_counters)
_FIXED: Final = ("id", "organization_id", "lane", "priority", "deadline_at", "key_id")
_MOVING: Final = tuple(name for name in _STANDING if name not in _FIXED)
UPDATE_STANDING = (
    update(_jobs).where(_jobs.c.id == bindparam("key")).values({name: bindparam(name) for name in _MOVING})
)
UPDATE_ENDING = (
    update(_jobs)
    .where(_jobs.c.id == bindparam("key"))
    .values({name: bindparam(name) for name in ("output", "error", "usage")})
)
UPDATE_CLAIMED = (
    update(_jobs)
    .where(_jobs.c.id == bindparam("key"))
    .values(turn=null(), due_at=bindparam("due_at"), lease_token=bindparam("lease_token"))
)
UPDATE_COUNTER = update(_counters).where(_counters.c.name == bindparam("key")).values(value=bindparam("value"))


@dataclass(frozen=True, slots=True)
class Claim:
    """Takes jobs out of the queue. It walks the queue in SQL, after the operations of its group are written."""

    room: Room
    lease_s: float


Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Change(Generic[Result_co]):
    """A write of something that is not a job: keys, webhooks, assets, budgets. `make` gets the connection and the time
    (UTC seconds); what it raises undoes what it did, and nothing else of the group. is_synced: see Records.change."""

    make: Callable[[Connection, float], Result_co]
    is_synced: bool = True


Write = Operation[Any] | Claim | Change[Any]  # Any: each has a result of its own


@dataclass(slots=True)
class Written:
    """What a transaction did: a result or the named error for each write, in order, and its events."""

    outcomes: list[object] = field(default_factory=list)
    events: list[JobEvent] = field(default_factory=list)


def run(connection: Connection, writes: Sequence[Write], clock: Callable[[], float]) -> Written:
    """Runs the writes in the connection's transaction. Claims come last; callers that wait for a result before they
    send the next write cannot tell."""
    now, written = clock(), Written([None] * len(writes))
    operations = {index: write for index, write in enumerate(writes) if not isinstance(write, Claim | Change)}
    if operations:
        group = _read(connection, list(operations.values()), now)
        for index, operation in operations.items():
            try:
                written.outcomes[index] = operation.apply(group)
            except FabricError as exc:
                written.outcomes[index] = exc
        _write(connection, group)
        written.events.extend(group.events)
    for index, write in enumerate(writes):
        if isinstance(write, Change):
            written.outcomes[index] = _change(connection, write, now)
        if isinstance(write, Claim):
            written.events.extend(_swept(connection, DUE, Requeue, now))
            written.events.extend(_swept(connection, OVERDUE, Expire, now))
            written.outcomes[index] = _claim(connection, write, now)
    return written


# ---- reading ----


def _read(connection: Connection, operations: Sequence[Operation[Any]], now: float) -> Group:
    creates = [operation for operation in operations if isinstance(operation, Create)]
    rows = _standings(connection, {job_id for operation in operations for job_id in operation.job_ids})
    owners = {(row.organization_id, row.key_id) for row in rows.values()}
    owners.update((create.job.request.organization_id, create.job.request.key_id) for create in creates)
    return Group(
        now=now,
        rows=rows,
        originals=_originals(connection, creates),
        counters=(counters := _counters_of(connection, owners)),
        stored_counters=frozenset(counters),
        turns=_turns(connection, creates),
    )


def _standings(connection: Connection, ids: Iterable[JobId]) -> dict[JobId, Standing]:
    wanted = list(ids)
    if not wanted:
        return {}
    return {row.id: _standing(row) for row in _found(connection, standings_among, wanted)}


def _standing(row: Any) -> Standing:  # Any: a row of the standing columns
    return Standing._make(row).but(state=JobState(row.state))


def _found(connection: Connection, among: Callable[[int], Select[Any]], keys: Sequence[str]) -> Iterator[Any]:
    """Any: rows of the statement that `among` makes for so many keys. Few numbers of them, so that few are made: the
    last key fills what is left."""
    for start in range(0, len(keys), KEYS):
        part = list(keys[start : start + KEYS])
        count = 1 << (len(part) - 1).bit_length()
        padded = [*part, *part[-1:] * (count - len(part))]
        yield from fetch(connection, among(count), {f"key_{index}": key for index, key in enumerate(padded)})


@lru_cache
def standings_among(count: int) -> Select[Any]:
    return select(*(_jobs.c[name] for name in _STANDING)).where(_jobs.c.id.in_(_keys(count)))


@lru_cache
def counters_among(count: int) -> Select[Any]:
    return select(_counters).where(_counters.c.name.in_(_keys(count)))


def _keys(count: int) -> Sequence[BindParameter[str]]:
    return [bindparam(f"key_{index}") for index in range(count)]


def _originals(connection: Connection, creates: Sequence[Create]) -> dict[IdempotencyKey, Job]:
    requests = (create.job.request for create in creates)
    keys = {(request.organization_id, request.idempotency_key) for request in requests if request.idempotency_key}
    originals = {}
    for organization_id, key in keys:
        for row in fetch(connection, ORIGINAL, {"organization_id": organization_id, "key": key}):
            originals[(str(organization_id), key)] = job_from(row)
    return originals


def _counters_of(connection: Connection, owners: Iterable[tuple[str, str | None]]) -> dict[str, int]:
    """owners: the organization and the key of each job."""
    names = {state.value for state in UNFINISHED}
    for organization_id, key_id in owners:
        names.add(position_counter(organization_id))
        if key_id is not None:
            names.add(unfinished_counter(key_id))
    return {row.name: row.value for row in _found(connection, counters_among, list(names))}


def _turns(connection: Connection, creates: Sequence[Create]) -> Turns:
    requests = [create.job.request for create in creates]
    turns = Turns({}, {})
    for lane, priority in {(request.lane, request.priority) for request in requests}:
        [(lowest,)] = fetch(connection, LOWEST_TURN, {"lane": lane, "priority": priority})
        if lowest is not None:
            turns.passed[(lane, priority)] = lowest
    for lane, priority, organization_id in {(r.lane, r.priority, r.organization_id) for r in requests}:
        place = {"lane": lane, "priority": priority, "organization_id": organization_id}
        [(highest,)] = fetch(connection, HIGHEST_TURN, place)
        if highest is not None:
            turns.last[(lane, priority, organization_id)] = highest
    return turns


# ---- writing ----


def _write(connection: Connection, group: Group) -> None:
    if group.created:
        rows = [{**columns, **_moving(group.rows[columns["id"]])} for columns in group.created]
        execute_many(connection, INSERT_JOB, rows)
    created = {columns["id"] for columns in group.created}
    moved = [{"key": row.id, **_moving(row)} for row in group.changed.values() if row.id not in created]
    if moved:
        execute_many(connection, UPDATE_STANDING, moved)
    if group.endings:
        execute_many(connection, UPDATE_ENDING, group.endings)
    if group.events:
        execute_many(connection, INSERT_EVENT, [event_columns(event) for event in group.events])
        _write_counters(connection, group)
    usage.write(connection, group.spent, group.now)


def _write_counters(connection: Connection, group: Group) -> None:
    stored, counters = group.stored_counters, group.counters.items()
    old = [{"key": name, "value": value} for name, value in counters if name in stored]
    new = [{"name": name, "value": value} for name, value in counters if name not in stored]
    if old:
        execute_many(connection, UPDATE_COUNTER, old)
    if new:
        execute_many(connection, INSERT_COUNTER, new)


def _moving(row: Standing) -> dict[str, object]:
    return dict(zip(_MOVING, _moving_of(row), strict=True)) | {"state": row.state.value}


_moving_of: Final = attrgetter(*_MOVING)


# ---- claiming ----


def _swept(
    connection: Connection,
    which: Select[Any],  # Any: as its rows
    sweep: Callable[[JobId], Operation[None]],
    now: float,
) -> list[JobEvent]:
    """Of every job that is due: back into the queue after a lease that ran out or a wait, or failed at its deadline."""
    due = {row.id: _standing(row) for row in fetch(connection, which, {"now": now})}
    if not due:
        return []
    counters = _counters_of(connection, {(row.organization_id, row.key_id) for row in due.values()})
    stored = frozenset(counters)
    group = Group(now=now, rows=due, originals={}, counters=counters, stored_counters=stored, turns=Turns({}, {}))
    for job_id in list(due):
        sweep(job_id).apply(group)
    _write(connection, group)
    return group.events


def _change(connection: Connection, change: Change[Any], now: float) -> object:
    """What it returned, or its named error, which undoes it alone: the jobs of the group are none of its business.

    The savepoint goes straight to the driver: SQLAlchemy's own takes as long as all else that a small change does. Any other
    exception ends the whole transaction."""
    cursor = connection.connection.cursor()
    cursor.execute("SAVEPOINT one_change")
    try:
        outcome = change.make(connection, now)
    except FabricError as exc:
        cursor.execute("ROLLBACK TO one_change")
        outcome = exc
    cursor.execute("RELEASE one_change")
    return outcome


def _claim(connection: Connection, claim: Claim, now: float) -> Claimed:
    lanes = queries.lanes(connection)
    jobs = [
        job_from(row)
        for lane, room in (claim.room(lanes) if lanes else {}).items()
        if room > 0
        for row in fetch(connection, NEXT_IN_LANE, {"lane": lane, "room": room})
    ]
    leases = [Lease(job, f"{random.getrandbits(64):016x}", now + claim.lease_s) for job in jobs]
    if leases:
        execute_many(
            connection,
            UPDATE_CLAIMED,
            [{"key": lease.job.id, "due_at": lease.expires_at, "lease_token": lease.token} for lease in leases],
        )
    return Claimed(leases, queries.next_due(connection))
