"""Webhooks, the secrets that sign them, and how far each organization's events have been handed to them.

Nothing here sees a secret in clear. Not about single deliveries (deliveries.py).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from protos.errors import NotFound, QuotaExceeded
from protos.types import OrganizationId
from router.jobs import JobState
from router.store import tables
from router.store.group import UNFINISHED, position_counter
from router.store.rows import encoded, encoded_or_none
from router.store.tables import metadata

webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text),
    Column("event_filter", Text, nullable=False),  # JSON, as is resource_filter
    Column("resource_filter", Text),
    Column("max_retries", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("sealed_secret", Text, nullable=False),
    Column("since", BigInteger, nullable=False),  # the last event's position when it was made: it gets those after
    Column("failing_since", Double),  # no attempt has succeeded since
    Column("created_at", Double, nullable=False),
)
Index("webhooks_list", webhooks.c.organization_id, webhooks.c.id)

# What signs the calls of the webhook_urls of an organization's jobs.
signing_secrets: Final = Table(
    "signing_secrets",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("rotated_at", Double, nullable=False),
)

# The organizations whose events are followed: the position up to which their deliveries have been made.
cursors: Final = Table(
    "webhook_cursors",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

_counters: Final = tables.counters
Result = TypeVar("Result")
Write = Callable[[Connection, float], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Times are UTC seconds."""

    id: str
    organization_id: OrganizationId
    url: str
    description: str | None
    event_filter: Sequence[str]
    resource_filter: Mapping[str, str] | None
    max_retries: int
    active: bool
    disabled_reason: str | None  # why, when the router did it
    sealed_secret: str
    since: int
    failing_since: float | None
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    id: str
    organization_id: OrganizationId
    url: str
    description: str | None
    event_filter: Sequence[str]
    resource_filter: Mapping[str, str] | None
    max_retries: int
    sealed_secret: str


def add(new: NewWebhook, limit: int) -> Write[Webhook]:
    """Raises QuotaExceeded when the organization has `limit` of them."""

    def make(connection: Connection, now: float) -> Webhook:
        counted = select(func.count()).where(webhooks.c.organization_id == new.organization_id)
        if (connection.scalar(counted) or 0) >= limit:
            raise QuotaExceeded(f"organization {new.organization_id} has {limit} webhooks, its limit: delete one")
        _follow(connection, new.organization_id)
        webhook = Webhook(
            id=new.id,
            organization_id=new.organization_id,
            url=new.url,
            description=new.description,
            event_filter=new.event_filter,
            resource_filter=new.resource_filter,
            max_retries=new.max_retries,
            active=True,
            disabled_reason=None,
            sealed_secret=new.sealed_secret,
            since=_last_position(connection, new.organization_id),
            failing_since=None,
            created_at=now,
        )
        connection.execute(insert(webhooks).values(_columns(webhook)))
        return webhook

    return make


_ONE: Final = select(webhooks).where(webhooks.c.id == bindparam("id"))


def one(connection: Connection, webhook_id: str, organization_id: OrganizationId | None) -> Webhook:
    """`organization_id` None: of any. Raises NotFound."""
    row = connection.execute(_ONE, {"id": webhook_id}).one_or_none()
    if row is None or organization_id not in (None, row.organization_id):
        raise NotFound(f"there is no webhook {webhook_id[:80]!r}: GET /v1/organizations/{{org}}/webhooks lists yours")
    return _from(row)


def listed(connection: Connection, organization_id: OrganizationId) -> Sequence[Webhook]:
    """Oldest first."""
    wanted = select(webhooks).where(webhooks.c.organization_id == organization_id).order_by(webhooks.c.id)
    return [_from(row) for row in connection.execute(wanted)]


def change(
    webhook_id: str, organization_id: OrganizationId | None, changed: Callable[[Webhook, int], Webhook]
) -> Write[Webhook]:
    """`changed` gets the webhook and the last event's position. Raises NotFound, and what `changed` raises."""

    def make(connection: Connection, _now: float) -> Webhook:
        webhook = one(connection, webhook_id, organization_id)
        webhook = changed(webhook, _last_position(connection, webhook.organization_id))
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(_columns(webhook)))
        return webhook

    return make


def remove(webhook_id: str, organization_id: OrganizationId | None) -> Write[None]:
    """Raises NotFound."""

    def make(connection: Connection, _now: float) -> None:
        one(connection, webhook_id, organization_id)
        connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    return make


# ---- secrets ----


def sign_with(organization_id: OrganizationId, sealed: str) -> Write[None]:
    """The organization's secret from now on."""

    def make(connection: Connection, now: float) -> None:
        connection.execute(delete(signing_secrets).where(signing_secrets.c.organization_id == organization_id))
        connection.execute(
            insert(signing_secrets).values(organization_id=organization_id, sealed=sealed, rotated_at=now)
        )

    return make


_SIGNING: Final = select(signing_secrets.c.sealed).where(
    signing_secrets.c.organization_id == bindparam("organization_id")
)


def sealed_signing_secret(connection: Connection, organization_id: OrganizationId) -> str | None:
    return connection.scalar(_SIGNING, {"organization_id": organization_id})


def renew(reseal: Callable[[str], str]) -> Write[None]:
    """Puts every secret under the newest key."""

    def make(connection: Connection, _now: float) -> None:
        for row in connection.execute(select(webhooks.c.id, webhooks.c.sealed_secret)).all():
            one_of = update(webhooks).where(webhooks.c.id == row.id)
            connection.execute(one_of.values(sealed_secret=reseal(row.sealed_secret)))
        for row in connection.execute(select(signing_secrets)).all():
            its = update(signing_secrets).where(signing_secrets.c.organization_id == row.organization_id)
            connection.execute(its.values(sealed=reseal(row.sealed)))

    return make


# ---- followed organizations ----


def follow(organization_id: OrganizationId, sealed: str) -> Write[None]:
    """Hands over the events from now on, if it has not begun before. `sealed`: what signs if nothing does yet."""

    def make(connection: Connection, now: float) -> None:
        _follow(connection, organization_id)
        if sealed_signing_secret(connection, organization_id) is None:
            sign_with(organization_id, sealed)(connection, now)

    return make


def followed(connection: Connection) -> Sequence[OrganizationId]:
    return [OrganizationId(name) for name in connection.scalars(select(cursors.c.organization_id))]


def leave_idle(connection: Connection, _now: float) -> None:
    """Ends the following of organizations with nobody to tell: no webhook, no unfinished job with a webhook_url, and
    nothing left to hand over. Only while no jobs are taken: one that is just being created is not seen yet."""
    for organization_id in followed(connection):
        if not _has_listener(connection, organization_id):
            connection.execute(delete(cursors).where(cursors.c.organization_id == organization_id))


def _has_listener(connection: Connection, organization_id: OrganizationId) -> bool:
    jobs = tables.jobs
    position = select(cursors.c.position).where(cursors.c.organization_id == organization_id)
    unfinished = jobs.c.state.in_([JobState(state).value for state in UNFINISHED])
    waiting = select(jobs.c.id).where(
        jobs.c.organization_id == organization_id, unfinished, jobs.c.webhook_url.is_not(None)
    )
    has_webhook = select(webhooks.c.id).where(webhooks.c.organization_id == organization_id)
    return (
        connection.scalar(position) != _last_position(connection, organization_id)
        or connection.execute(has_webhook.limit(1)).first() is not None
        or connection.execute(waiting.limit(1)).first() is not None
    )


def _follow(connection: Connection, organization_id: OrganizationId) -> None:
    known = select(cursors.c.position).where(cursors.c.organization_id == organization_id)
    if connection.scalar(known) is None:
        position = _last_position(connection, organization_id)
        connection.execute(insert(cursors).values(organization_id=organization_id, position=position))


def _last_position(connection: Connection, organization_id: OrganizationId) -> int:
    wanted = select(_counters.c.value).where(_counters.c.name == position_counter(organization_id))
    return connection.scalar(wanted) or 0


# ---- rows ----


def _columns(webhook: Webhook) -> dict[str, object]:
    columns = {column.name: getattr(webhook, column.name) for column in webhooks.columns}
    resource_filter = webhook.resource_filter
    return columns | {
        "event_filter": encoded(list(webhook.event_filter)),
        "resource_filter": encoded_or_none(None if resource_filter is None else dict(resource_filter)),
    }


def _from(row: Row[Any]) -> Webhook:  # Any: a row of all columns of webhooks
    columns = dict(row._mapping)  # its public name, in spite of the underscore
    columns["event_filter"] = json.loads(row.event_filter)
    columns["resource_filter"] = None if row.resource_filter is None else json.loads(row.resource_filter)
    return Webhook(**columns)
