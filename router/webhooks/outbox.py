"""Hands an organization's events over to the webhooks that want them: each becomes deliveries, once.

Woken by commits; after a restart it goes on from the stored cursors. An organization with no webhook, and no job with a
webhook_url, costs one look into a set per commit. Not about sending (deliverer.py).
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from ulid import ULID

from protos.types import OrganizationId
from router.jobs import JobEvent
from router.store import webhooks as table
from router.store.base import Records
from router.store.deliveries import Delivery
from router.store.handover import Happened, Page, hand_over, next_page
from router.store.webhooks import Webhook
from router.webhooks.filters import JobFacts, matches
from router.webhooks.messages import Dialect, split_hook
from router.webhooks.rounds import Rounds

PAGE: Final = 200  # events in one change: short, so that it does not hold up the jobs


class Outbox:
    """`on_handover` is called after deliveries were stored."""

    def __init__(self, records: Records, clock: Callable[[], float], on_handover: Callable[[], None]) -> None:
        self._records, self._clock, self._on_handover = records, clock, on_handover
        self._followed: set[OrganizationId] = set()
        self._dirty: set[OrganizationId] = set()
        self._rounds = Rounds("webhook-outbox", self._round)

    async def open(self) -> None:
        self._followed = set(await self._records.look(table.followed))
        self._dirty = set(self._followed)  # what was committed before the restart, and not handed over
        self._rounds.start()

    async def close(self) -> None:
        await self._rounds.close()

    def follow(self, organization_id: OrganizationId) -> None:
        """From now on; the store does already, and may have events of it that nobody was woken for."""
        self._followed.add(organization_id)
        self._dirty.add(organization_id)
        self._rounds.wake()

    def on_commit(self, events: Sequence[JobEvent]) -> None:
        """Called on the event loop after each commit."""
        if not self._followed:
            return
        touched = self._followed.intersection(event.organization_id for event in events)
        if touched:
            self._dirty |= touched
            self._rounds.wake()

    async def _round(self) -> None:
        while self._dirty:
            for organization_id in sorted(self._dirty):  # one page each in turn: a busy one does not hold up the others
                self._dirty.discard(organization_id)
                try:
                    is_done = await self._hand_over(organization_id)
                except BaseException:
                    self._dirty.add(organization_id)
                    raise
                if not is_done:
                    self._dirty.add(organization_id)
            await asyncio.sleep(0)

    async def _hand_over(self, organization_id: OrganizationId) -> bool:
        """Of one page; whether it was the last."""
        page = await self._records.look(next_page(organization_id, PAGE))
        if page is None or not page.happened:
            return True
        made = deliveries_of(page, self._clock())
        if await self._records.change(hand_over(organization_id, page, made)) and made:
            self._on_handover()
        return len(page.happened) < PAGE


# ---- who gets what; pure but for the new ids ----


@dataclass(frozen=True, slots=True)
class _Target:
    webhook_id: str | None
    url: str
    dialect: Dialect


def deliveries_of(page: Page, now: float) -> list[Delivery]:
    """In the order of the events."""
    targets = [(happened, target) for happened in page.happened for target in _targets(happened, page.webhooks)]
    ids = sorted(new_delivery_id() for _ in targets)  # they sort as the events do
    return [_delivery(delivery_id, *pair, now) for delivery_id, pair in zip(ids, targets, strict=True)]


def _targets(happened: Happened, webhooks: Sequence[Webhook]) -> Iterator[_Target]:
    """The webhooks that want the event; and the job's own webhook_url, which gets its last event."""
    facts: JobFacts | None = None
    for webhook in webhooks:
        if webhook.active and webhook.since < happened.event.position:
            facts = facts or _facts(happened)
            if matches(happened.event, facts, webhook.event_filter, webhook.resource_filter):
                yield _Target(webhook.id, webhook.url, Dialect.FABRIC)
    if happened.webhook_url is not None and happened.event.is_terminal:
        dialect, url = split_hook(happened.webhook_url)
        yield _Target(None, url, dialect)


def _facts(happened: Happened) -> JobFacts:
    return JobFacts(happened.modality, happened.tier, happened.model, json.loads(happened.metadata))


def _delivery(delivery_id: str, happened: Happened, target: _Target, now: float) -> Delivery:
    event = happened.event
    return Delivery(
        id=delivery_id,
        organization_id=event.organization_id,
        webhook_id=target.webhook_id,
        job_id=event.job_id,
        seq=event.seq,
        kind=event.kind.value,
        url=target.url if target.webhook_id is None else None,
        dialect=target.dialect.value,
        target=target_of(target.url),
        due_at=now,
        created_at=now,
    )


def new_delivery_id() -> str:
    return f"dlv_{ULID()}"


def target_of(url: str) -> str:
    """Host and port: what shares one bound on calls at once, and rests together when it does not answer."""
    parsed = httpx.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    return f"{parsed.raw_host.decode('ascii')}:{port}"
