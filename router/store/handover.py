"""From an organization's events to the deliveries of its webhooks: the event table is the outbox, a cursor per organization
says how far it is handed over.

The deliveries of a page and the cursor behind it are one change, so an event is handed over exactly once. Not about which
target gets what (router/webhooks/outbox.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, insert, select, update

from protos.types import OrganizationId
from router.jobs import JobEvent
from router.store import tables
from router.store.deliveries import Delivery, columns_of, deliveries
from router.store.dialect import execute_many
from router.store.rows import event_from
from router.store.webhooks import Webhook, Write, cursors, listed


@dataclass(frozen=True, slots=True)
class Happened:
    """An event, and what its deliveries are made of: its job, whose output and input are not read."""

    event: JobEvent
    webhook_url: str | None
    modality: str
    tier: str | None
    model: str | None
    metadata: str  # JSON


@dataclass(frozen=True, slots=True)
class Page:
    """The next events of an organization that were not handed over. `position`: the cursor when it was read."""

    position: int
    happened: Sequence[Happened]
    webhooks: Sequence[Webhook]


_events, _jobs = tables.events, tables.jobs
_INSERT: Final = insert(deliveries)
_facts: Final = (_jobs.c.webhook_url, _jobs.c.modality, _jobs.c.tier, _jobs.c.metadata, _jobs.c.request_model)


def next_page(organization_id: OrganizationId, limit: int) -> Callable[[Connection], Page | None]:
    """None: the organization is not followed."""

    def read(connection: Connection) -> Page | None:
        wanted = select(cursors.c.position).where(cursors.c.organization_id == organization_id)
        position = connection.scalar(wanted)
        if position is None:
            return None
        rows = connection.execute(_after(organization_id, position, limit))
        return Page(position, [_happened(row) for row in rows], listed(connection, organization_id))

    return read


def _after(organization_id: OrganizationId, position: int, limit: int) -> Select[Any]:  # Any: not in its type
    return (
        select(_events, *_facts)
        .join(_jobs, _jobs.c.id == _events.c.job_id)
        .where(_events.c.organization_id == organization_id, _events.c.position > position)
        .order_by(_events.c.position)
        .limit(limit)
    )


def _happened(row: Row[Any]) -> Happened:  # Any: a row of _after
    return Happened(event_from(row), row.webhook_url, row.modality, row.tier, row.request_model, row.metadata)


def hand_over(organization_id: OrganizationId, page: Page, made: Sequence[Delivery]) -> Write[bool]:
    """Stores the deliveries of a page and moves the cursor over it. False, and no change: somebody has done it."""
    last = page.happened[-1].event.position
    rows = [columns_of(delivery) for delivery in made]

    def make(connection: Connection, _now: float) -> bool:
        moved = (
            update(cursors)
            .where(cursors.c.organization_id == organization_id, cursors.c.position == page.position)
            .values(position=last)
        )
        if connection.execute(moved).rowcount == 0:
            return False
        if rows:
            execute_many(connection, _INSERT, rows)
        return True

    return make
