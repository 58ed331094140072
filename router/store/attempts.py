"""What is due to be sent, what it is made of, and what became of it: the deliverer's reads and writes.

Not about how a message is made and judged (router/webhooks/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update

from protos.errors import NotFound
from router.jobs import Job, JobEvent
from router.store import tables
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


def standings(connection: Connection) -> Sequence[Standing]:
    """Each target by one seek, however many deliveries wait for it; the one that has waited longest first."""
    found, after = [], ""
    while (row := connection.execute(_NEXT_TARGET, {"after": after}).one_or_none()) is not None:
        found.append(Standing(row.target, row.due_at))
        after = row.target
    return sorted(found, key=lambda standing: standing.due_at)


def due(rooms: Mapping[str, int], now: float) -> Callable[[Connection], Sequence[Delivery]]:
    """rooms: how many of each target."""

    def read(connection: Connection) -> Sequence[Delivery]:
        return [
            delivery_from(row)
            for target, limit in rooms.items()
            for row in connection.execute(_DUE, {"target": target, "now": now, "limit": limit})
        ]

    return read


@dataclass(frozen=True, slots=True)
class Material:
    """What an attempt is made of."""

    event: JobEvent | None  # None: it is no longer stored
    job: Job | None
    webhook: Webhook | None  # None: it was deleted, or the delivery is of a job's webhook_url
    sealed_secret: str | None


def material(delivery: Delivery) -> Callable[[Connection], Material]:
    def read(connection: Connection) -> Material:
        event = select(_events).where(_events.c.job_id == delivery.job_id, _events.c.seq == delivery.seq)
        row = connection.execute(event).one_or_none()
        job = connection.execute(select(_jobs).where(_jobs.c.id == delivery.job_id)).one_or_none()
        webhook, sealed = _signer(connection, delivery)
        return Material(event_from(row) if row else None, job_from(job) if job else None, webhook, sealed)

    return read


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


def settle(delivery: Delivery, attempted: Attempted, give_up_after_s: float) -> Write[bool]:
    """Stores it. True: the webhook is disabled by it, because of what the target answered, or as none of its attempts
    has succeeded for `give_up_after_s`."""

    def make(connection: Connection, now: float) -> bool:
        ended_at = now if attempted.due_at is None else None
        connection.execute(
            update(deliveries)
            .where(deliveries.c.id == delivery.id, is_due)  # not one that was ended meanwhile
            .values(
                status=attempted.status.value,
                attempts=delivery.attempts + 1,
                due_at=attempted.due_at,
                status_code=attempted.status_code,
                error=attempted.error,
                ended_at=ended_at,
            )
        )
        return delivery.webhook_id is not None and _tell(
            connection, delivery.webhook_id, attempted, now, give_up_after_s
        )

    return make


def _tell(connection: Connection, webhook_id: str, attempted: Attempted, now: float, give_up_after_s: float) -> bool:
    """Keeps since when the webhook fails, and disables it when that is too long."""
    row = connection.execute(
        select(webhooks.c.active, webhooks.c.failing_since).where(webhooks.c.id == webhook_id)
    ).one_or_none()
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
