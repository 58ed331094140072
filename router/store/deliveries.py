"""The deliveries of webhooks: one row for each event and each target that gets it, made in the change that moves the
organization's cursor over the event. So an event is handed over exactly once, and sent at least once.

A row holds no body: that is made of the stored event when it is sent. Not about what is sent, when and how
(router/webhooks/).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    Select,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from protos.errors import NotFound
from protos.types import OrganizationId
from router.jobs import JobId, Json
from router.store.tables import metadata
from router.store.webhooks import Write

BATCH: Final = 500  # rows that one change ends or deletes: it holds up the jobs' writes


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("webhook_id", Text),  # null: the webhook_url of the job
    Column("job_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),  # the event's
    Column("kind", Text, nullable=False),
    Column("url", Text),  # of the job; a webhook's is its own, as it is when the event is sent
    Column("dialect", Text, nullable=False),
    Column("target", Text, nullable=False),  # host and port: what the bound on calls at once counts
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double),  # of the next attempt; null: ended
    Column("status_code", Integer),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
)
is_due = deliveries.c.due_at.is_not(None)
_has_ended = deliveries.c.ended_at.is_not(None)
Index("deliveries_list", deliveries.c.webhook_id, deliveries.c.id)
Index("deliveries_of_job", deliveries.c.job_id, deliveries.c.id)
Index("deliveries_due", deliveries.c.target, deliveries.c.due_at, sqlite_where=is_due, postgresql_where=is_due)
Index("deliveries_left", deliveries.c.webhook_id, deliveries.c.target, sqlite_where=is_due, postgresql_where=is_due)
Index("deliveries_ended", deliveries.c.ended_at, sqlite_where=_has_ended, postgresql_where=_has_ended)
Index("deliveries_old", deliveries.c.created_at, sqlite_where=is_due, postgresql_where=is_due)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Times are UTC seconds. `attempts`: those that have ended."""

    id: str
    organization_id: OrganizationId
    webhook_id: str | None
    job_id: JobId
    seq: int
    kind: str
    url: str | None
    dialect: str
    target: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: int = 0
    due_at: float | None
    status_code: int | None = None
    error: str | None = None
    created_at: float
    ended_at: float | None = None

    @property
    def event_id(self) -> str:
        """The same however often and to whomever the event is sent: receivers know a repeat by it."""
        return f"evt_{self.job_id.removeprefix('job_')}_{self.seq}"


# ---- what callers see ----


Page = Callable[[Connection], Sequence[Delivery]]


def page_of(webhook_id: str, limit: int, offset: int) -> Page:
    """Newest first."""
    return _page(deliveries.c.webhook_id == webhook_id, limit, offset)


def page_of_job(job_id: JobId, limit: int, offset: int) -> Page:
    """Those to its webhook_url and to webhooks, newest first."""
    return _page(deliveries.c.job_id == job_id, limit, offset)


def _page(its: ColumnElement[bool], limit: int, offset: int) -> Page:
    wanted = select(deliveries).where(its).order_by(deliveries.c.id.desc()).limit(limit).offset(offset)
    return lambda connection: [delivery_from(row) for row in connection.execute(wanted)]


def of_webhook(connection: Connection, delivery_id: str, webhook_id: str) -> Delivery:
    """Raises NotFound."""
    listed = f"webhook {webhook_id}: GET /v1/webhooks/{webhook_id}/deliveries"
    return _one(connection, delivery_id, deliveries.c.webhook_id == webhook_id, listed)


def of_job(connection: Connection, delivery_id: str, job_id: JobId) -> Delivery:
    """Raises NotFound."""
    return _one(
        connection, delivery_id, deliveries.c.job_id == job_id, f"job {job_id}: GET /v1/jobs/{job_id}/deliveries"
    )


def _one(connection: Connection, delivery_id: str, its: ColumnElement[bool], listed: str) -> Delivery:
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery_id, its)).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no delivery {delivery_id[:80]!r} of {listed} lists them, for as long as they are kept"
        )
    return delivery_from(row)


def retarget(connection: Connection, webhook_id: str, target: str) -> None:
    """What waits for a webhook goes to its new URL."""
    its = update(deliveries).where(is_due, deliveries.c.webhook_id == webhook_id)
    connection.execute(its.values(target=target))


def add(connection: Connection, delivery: Delivery) -> None:
    connection.execute(insert(deliveries).values(columns_of(delivery)))


def columns_of(delivery: Delivery) -> Json:
    return {column.name: getattr(delivery, column.name) for column in deliveries.columns} | {
        "status": delivery.status.value
    }


def delivery_from(row: Row[Any]) -> Delivery:  # Any: a row of all columns of deliveries
    columns: Json = dict(row._mapping)  # its public name, in spite of the underscore
    return Delivery(**columns | {"status": DeliveryStatus(row.status)})


# ---- deletion ----


def delete_of(webhook_id: str) -> Write[int]:
    """Deletes a webhook's deliveries; how many. To be repeated until it is fewer than BATCH."""
    return _delete(select(deliveries.c.id).where(deliveries.c.webhook_id == webhook_id).limit(BATCH))


def delete_ended(before: float) -> Write[int]:
    """The same for those that ended before a time."""
    return _delete(select(deliveries.c.id).where(_has_ended, deliveries.c.ended_at < before).limit(BATCH))


def _delete(wanted: Select[Any]) -> Write[int]:  # Any: of ids
    def make(connection: Connection, _now: float) -> int:
        return connection.execute(delete(deliveries).where(deliveries.c.id.in_(wanted))).rowcount

    return make
