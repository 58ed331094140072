"""What is due to be sent, what it is made of, and what became of it: the deliverer's reads and writes.

Not about how a message is made and judged (router/webhooks/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update

from protos.errors import NotFound
from router.jobs import Job, JobEvent
from router.store import tables, usage
from router.store.deliveries import BATCH, Delivery, DeliveryStatus, deliveries, delivery_from, is_due
from router.store.rows import event_from, job_from
from router.store.webhooks import Webhook, Write, one, sealed_signing_secret, webhooks

_events, _jobs = tables.events, tables.jobs


# ---- what is due ----


@dataclass(frozen=True, slots=True)
class Standing:
    """A target that has deliveries to make, and when its next is due."""

    target: str
    due_at: float


_NEXT_TARGET: Final = (
    select(deliveries.c.target, deliveries.c.due_at)
    .where(is_due, deliveries.c.target > bindparam("after"))
    .order_by(deliveries.c.target, deliveries.c.due_at)
    .limit(1)
)
_DUE: Final = (
    select(deliveries)
    .where(is_due, deliveries.c.target == bindparam("target"), deliveries.c.due_at <= bindparam("now"))
    .order_by(deliveries.c.due_at)
    .limit(bindparam("limit"))
)


_EVENT: Final = select(_events).where(_events.c.job_id == bindparam("job_id"), _events.c.seq == bindparam("seq"))
_JOB: Final = select(_jobs).where(_jobs.c.id == bindparam("job_id"))


@dataclass(frozen=True, slots=True)
class Material:
    """What an attempt is made of."""

    event: JobEvent | None  # None: it is no longer stored
    job: Job | None  # None: nor is it, or the dialect does not need it
    cost_micro: int  # of that job
    webhook: Webhook | None  # None: it was deleted, or the delivery is of a job's webhook_url
    sealed_secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """How many attempts may begin now: in all, and to each target."""

    total: int
    usual: int  # to a target that is not in `of`
    of: Mapping[str, int]
    taken: frozenset[str]  # deliveries on their way: due in the store until they are settled


@dataclass(frozen=True, slots=True)
class Work:
    standings: Sequence[Standing]
    due: Sequence[tuple[Delivery, Material]]


def work(rooms: Rooms, now: float, with_job: frozenset[str]) -> Callable[[Connection], Work]:
    """What to begin now, and every target that waits. `with_job`: the dialects whose messages need the job."""

    def read(connection: Connection) -> Work:
        standings = _standings(connection)
        chosen: list[Delivery] = []
        for standing in standings:
            if standing.due_at <= now and len(chosen) < rooms.total:
                chosen += _due(connection, standing.target, rooms, now)
        chosen = chosen[: rooms.total]
        return Work(standings, [(each, _material(connection, each, with_job)) for each in chosen])

    return read


def _standings(connection: Connection) -> Sequence[Standing]:
    """Each target by one seek, however many deliveries wait for it; the one that has waited longest first."""
    found, after = [], ""
    while (row := connection.execute(_NEXT_TARGET, {"after": after}).one_or_none()) is not None:
        found.append(Standing(row.target, row.due_at))
        after = row.target
    return sorted(found, key=lambda standing: standing.due_at)


def _due(connection: Connection, target: str, rooms: Rooms, now: float) -> Sequence[Delivery]:
    room = rooms.of.get(target, rooms.usual)
    if room <= 0:
        return ()
    place = {"target": target, "now": now, "limit": room + len(rooms.taken)}
    rows = (row for row in connection.execute(_DUE, place) if row.id not in rooms.taken)
    return [delivery_from(row) for row in islice(rows, room)]


def _material(connection: Connection, delivery: Delivery, with_job: frozenset[str]) -> Material:
    event = connection.execute(_EVENT, {"job_id": delivery.job_id, "seq": delivery.seq}).one_or_none()
    needs_job = delivery.dialect in with_job
    job = connection.execute(_JOB, {"job_id": delivery.job_id}).one_or_none() if needs_job else None
    webhook, sealed = _signer(connection, delivery)
    return Material(
        event=event_from(event) if event else None,
        job=job_from(job) if job else None,
        cost_micro=sum(record.cost_micro for record in usage.of_job(connection, delivery.job_id)) if job else 0,
        webhook=webhook,
        sealed_secret=sealed,
    )


def _signer(connection: Connection, delivery: Delivery) -> tuple[Webhook | None, str | None]:
    if delivery.webhook_id is None:
        return None, sealed_signing_secret(connection, delivery.organization_id)
    try:
        webhook = one(connection, delivery.webhook_id, delivery.organization_id)
    except NotFound:
        return None, None
    return webhook, webhook.sealed_secret


# ---- what became of them ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """The outcome of an attempt. `due_at` None: it was the last."""

    status: DeliveryStatus
    due_at: float | None
    status_code: int | None
    error: str | None
    disables: str | None = None  # why the webhook is to be disabled


_SETTLE: Final = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("key"), is_due)  # not one that was ended meanwhile
    .values({name: bindparam(name) for name in ("status", "attempts", "due_at", "status_code", "error", "ended_at")})
)
_HEALTH: Final = select(webhooks.c.active, webhooks.c.failing_since).where(webhooks.c.id == bindparam("id"))


def settle(delivery: Delivery, attempted: Attempted, give_up_after_s: float) -> Write[bool]:
    """Stores it. True: the webhook is disabled by it, because of what the target answered, or as none of its attempts
    has succeeded for `give_up_after_s`."""

    def make(connection: Connection, now: float) -> bool:
        outcome = {
            "key": delivery.id,
            "status": attempted.status.value,
            "attempts": delivery.attempts + 1,
            "due_at": attempted.due_at,
            "status_code": attempted.status_code,
            "error": attempted.error,
            "ended_at": now if attempted.due_at is None else None,
        }
        connection.execute(_SETTLE, outcome)
        return delivery.webhook_id is not None and _tell(
            connection, delivery.webhook_id, attempted, now, give_up_after_s
        )

    return make


def _tell(connection: Connection, webhook_id: str, attempted: Attempted, now: float, give_up_after_s: float) -> bool:
    """Keeps since when the webhook fails, and disables it when that is too long."""
    row = connection.execute(_HEALTH, {"id": webhook_id}).one_or_none()
    if row is None:
        return False
    its = update(webhooks).where(webhooks.c.id == webhook_id)
    if attempted.status is DeliveryStatus.DELIVERED:
        if row.failing_since is not None:
            connection.execute(its.values(failing_since=None))
        return False
    failing_since = now if row.failing_since is None else row.failing_since
    reason = attempted.disables
    if reason is None and now - failing_since >= give_up_after_s:
        reason = f"no delivery has succeeded for {give_up_after_s / 86400:g} days; the last: {attempted.error}"
    if reason is not None and row.active:
        connection.execute(its.values(active=False, disabled_reason=reason, failing_since=failing_since))
        return True
    if row.failing_since is None:
        connection.execute(its.values(failing_since=failing_since))
    return False


def fail_pending(webhook_id: str, why: str) -> Write[int]:
    """Ends what waits for a webhook; how many. To be repeated until it is fewer than BATCH."""
    waiting = select(deliveries.c.id).where(is_due, deliveries.c.webhook_id == webhook_id).limit(BATCH)
    return _fail(waiting, why)


def fail_older(than: float, why: str) -> Write[int]:
    """The same for what was made before a time and still waits."""
    return _fail(select(deliveries.c.id).where(is_due, deliveries.c.created_at < than).limit(BATCH), why)


def _fail(wanted: Select[Any], why: str) -> Write[int]:  # Any: of ids
    def make(connection: Connection, now: float) -> int:
        its = update(deliveries).where(deliveries.c.id.in_(wanted))
        ended = its.values(status=DeliveryStatus.FAILED.value, due_at=None, error=why, ended_at=now)
        return connection.execute(ended).rowcount

    return make
