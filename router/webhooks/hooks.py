"""The webhooks of a router: what the API does with them, and the tasks that hand over, send and sweep.

Not about routes (api/webhooks.py).
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection
from ulid import ULID

from protos.errors import Conflict
from protos.types import OrganizationId
from router.jobs import JobEvent, JobId
from router.outbound import Outbound
from router.store import deliveries
from router.store import webhooks as table
from router.store.base import Records
from router.store.deliveries import BATCH, Delivery, DeliveryStatus
from router.store.webhooks import NewWebhook, Webhook
from router.vault import SealBroken, Vault
from router.webhooks.deliverer import Clock, Deliverer, fail_pending, sweep
from router.webhooks.messages import Dialect, Shapes, stored_hook
from router.webhooks.outbox import Outbox, new_delivery_id, target_of
from router.webhooks.rounds import Rounds
from router.webhooks.signing import new_secret

log = logging.getLogger(__name__)

SYSTEM_CLOCK: Final = Clock(time.time, random.random)
_SWEEP_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    timeout_s: float  # of one attempt
    retention_s: float  # of deliveries that have ended
    per_organization: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A webhook as a caller wants it, checked."""

    url: str
    description: str | None
    event_filter: Sequence[str]
    resource_filter: Mapping[str, str] | None
    max_retries: int
    secret: str | None  # None: a new one


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a caller wants otherwise; None: as it is."""

    url: str | None = None
    description: str | None = None
    event_filter: Sequence[str] | None = None
    resource_filter: Mapping[str, str] | None = None  # empty: none any more
    max_retries: int | None = None
    active: bool | None = None
    secret: str | None = None


class Webhooks:
    """Opened after the store, closed before it."""

    def __init__(
        self,
        records: Records,
        outbound: Outbound,
        vault: Vault,
        *,
        shapes: Shapes,
        settings: HookSettings,
        on_attempt: Callable[[DeliveryStatus], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`on_attempt` gets what became of the delivery."""
        self._records, self._outbound, self._vault = records, outbound, vault
        self._settings, self._clock = settings, clock
        self._deliverer = Deliverer(
            records, outbound, vault, shapes=shapes, timeout_s=settings.timeout_s, clock=clock, on_attempt=on_attempt
        )
        self._outbox = Outbox(records, clock.now, self._deliverer.wake)
        self._sweeper = Rounds("webhook-sweeper", self._sweep)
        self._expecting: set[OrganizationId] = set()  # whose jobs' calls can be signed, as far as known

    async def open(self) -> None:
        """Before any job is taken: what has nobody to tell is left."""
        await self._records.change(table.renew(self._renewed))
        await self._records.change(table.leave_idle)
        await self._outbox.open()
        self._deliverer.start()
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.close()
        await self._outbox.close()
        await self._deliverer.close()

    def on_commit(self, events: Sequence[JobEvent]) -> None:
        """Called on the event loop after each commit."""
        self._outbox.on_commit(events)

    def wake(self) -> None:
        """Looks for what is due: the clock was moved, or the targets are back."""
        self._deliverer.wake()

    async def _sweep(self) -> float:
        await sweep(self._records, self._clock.now(), self._settings.retention_s)
        return _SWEEP_S

    def _renewed(self, sealed: str) -> str:
        try:
            return self._vault.reseal(sealed)
        except SealBroken as error:  # what it signs cannot be sent, and will say so
            log.warning("%s", error.message)
            return sealed

    # ---- webhooks ----

    async def add(self, organization_id: OrganizationId, wanted: Wanted) -> tuple[Webhook, str]:
        """The webhook and its secret. Raises TargetRefused, QuotaExceeded."""
        self._outbound.check(wanted.url, "url")
        secret = wanted.secret or new_secret()
        new = NewWebhook(
            id=f"wh_{ULID()}",
            organization_id=organization_id,
            url=wanted.url,
            description=wanted.description,
            event_filter=wanted.event_filter,
            resource_filter=wanted.resource_filter,
            max_retries=wanted.max_retries,
            sealed_secret=self._vault.seal(secret),
        )
        webhook = await self._records.change(table.add(new, self._settings.per_organization))
        self._outbox.follow(organization_id)
        return webhook, secret

    async def one(self, webhook_id: str, reach: OrganizationId | None) -> Webhook:
        """`reach`: whose it must be; None: anybody's. Raises NotFound."""
        return await self._records.look(lambda connection: table.one(connection, webhook_id, reach))

    async def listed(self, organization_id: OrganizationId) -> Sequence[Webhook]:
        return await self._records.look(lambda connection: table.listed(connection, organization_id))

    async def change(self, webhook_id: str, reach: OrganizationId | None, changes: Changes) -> Webhook:
        """Raises NotFound, TargetRefused."""
        if changes.url is not None:
            self._outbound.check(changes.url, "url")
        sealed = None if changes.secret is None else self._vault.seal(changes.secret)
        write = table.change(webhook_id, reach, lambda webhook, position: changed(webhook, changes, sealed, position))

        def make(connection: Connection, now: float) -> Webhook:
            webhook = write(connection, now)
            if changes.url is not None:
                deliveries.retarget(connection, webhook.id, target_of(webhook.url))
            return webhook

        webhook = await self._records.change(make)
        if not webhook.active:
            await fail_pending(self._records, webhook.id, "the webhook was disabled")
        return webhook

    async def remove(self, webhook_id: str, reach: OrganizationId | None) -> None:
        """With its deliveries. Raises NotFound."""
        await self._records.change(table.remove(webhook_id, reach))
        while await self._records.change(deliveries.delete_of(webhook_id)) == BATCH:
            pass

    # ---- deliveries ----

    async def deliveries(
        self, webhook_id: str, reach: OrganizationId | None, limit: int, offset: int
    ) -> Sequence[Delivery]:
        """Newest first. Raises NotFound."""
        await self.one(webhook_id, reach)
        return await self._records.look(deliveries.page_of(webhook_id, limit, offset))

    async def redeliver(self, webhook_id: str, reach: OrganizationId | None, delivery_id: str) -> Delivery:
        """The event of a delivery once more: a new delivery. Raises NotFound, and Conflict for a disabled webhook."""

        def make(connection: Connection, now: float) -> Delivery:
            table.one(connection, webhook_id, reach)
            return repeated(connection, deliveries.of_webhook(connection, delivery_id, webhook_id), now)

        return await self._redeliver(make)

    async def deliveries_of_job(self, job_id: JobId, limit: int, offset: int) -> Sequence[Delivery]:
        """To its webhook_url and to webhooks, newest first."""
        return await self._records.look(deliveries.page_of_job(job_id, limit, offset))

    async def redeliver_of_job(self, job_id: JobId, delivery_id: str) -> Delivery:
        """As `redeliver`."""
        return await self._redeliver(
            lambda connection, now: repeated(connection, deliveries.of_job(connection, delivery_id, job_id), now)
        )

    async def _redeliver(self, make: table.Write[Delivery]) -> Delivery:
        delivery = await self._records.change(make)
        self._deliverer.wake()
        return delivery

    # ---- jobs with a webhook_url ----

    async def expect(self, organization_id: OrganizationId, webhook_url: str, dialect: Dialect = Dialect.FABRIC) -> str:
        """Before a job with a webhook_url is stored: the webhook_url to store. Raises TargetRefused."""
        self._outbound.check(webhook_url, "webhook_url")
        if organization_id not in self._expecting:
            await self._records.change(table.follow(organization_id, self._vault.seal(new_secret())))
            self._outbox.follow(organization_id)
            self._expecting.add(organization_id)
        return stored_hook(dialect, webhook_url)

    async def rotate_secret(self, organization_id: OrganizationId) -> str:
        """The secret that signs the calls of the organization's jobs from now on; told here alone."""
        secret = new_secret()
        await self._records.change(table.sign_with(organization_id, self._vault.seal(secret)))
        return secret


def repeated(connection: Connection, delivery: Delivery, now: float) -> Delivery:
    """The event of a delivery once more, stored. Raises Conflict for that of a disabled webhook."""
    url = delivery.url
    if delivery.webhook_id is not None:
        webhook = table.one(connection, delivery.webhook_id, None)
        if not webhook.active:
            raise Conflict(f'webhook {webhook.id} is disabled: enable it first, with PATCH {{"active": true}}')
        url = webhook.url
    assert url is not None, f"delivery {delivery.id} is of no webhook and has no URL: this is a bug"
    made = again(delivery, url, now)
    deliveries.add(connection, made)
    return made


# ---- deciding; pure ----


def changed(webhook: Webhook, changes: Changes, sealed_secret: str | None, position: int) -> Webhook:
    """`position`: the last event's."""
    given = {
        name: value
        for name in ("url", "description", "event_filter", "max_retries")
        if (value := getattr(changes, name)) is not None
    }
    webhook = replace(webhook, **given)
    if changes.resource_filter is not None:
        webhook = replace(webhook, resource_filter=changes.resource_filter or None)
    if sealed_secret is not None:
        webhook = replace(webhook, sealed_secret=sealed_secret)
    if changes.active is None or changes.active == webhook.active:
        return webhook
    if not changes.active:
        return replace(webhook, active=False)
    # It gets the events from now on, and has a clean record: why it was disabled is over.
    return replace(webhook, active=True, disabled_reason=None, failing_since=None, since=position)


def again(delivery: Delivery, url: str, now: float) -> Delivery:
    """A new delivery of the same event. url: where it goes now."""
    return Delivery(
        id=new_delivery_id(),
        organization_id=delivery.organization_id,
        webhook_id=delivery.webhook_id,
        job_id=delivery.job_id,
        seq=delivery.seq,
        kind=delivery.kind,
        url=delivery.url,
        dialect=delivery.dialect,
        target=target_of(url),
        due_at=now,
        created_at=now,
    )
