"""A store with webhooks, as a router has them; run as a program, one that is to be killed: argument 1 is its folder,
argument 2 the URL of the webhook that it makes, for two jobs that end at once."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet
from scripted import ORGANIZATION, a_job

from protos.types import OrganizationId
from router.jobs import Job, JobEvent, Json
from router.outbound import Outbound
from router.store import deliveries
from router.store.deliveries import Delivery, delivery_from
from router.store.sql import SqlStore
from router.store.webhooks import Webhook
from router.targets import Allowed
from router.vault import Vault
from router.webhooks.deliverer import Clock
from router.webhooks.generations import generation_event
from router.webhooks.hooks import HookSettings, Wanted, Webhooks
from router.webhooks.messages import Shapes

BOUND_S = 60.0
KEY = Fernet.generate_key().decode()


def shown(event: JobEvent) -> Json:
    """Not as the API has it: importing that takes many seconds on a busy machine, and this is a program too."""
    return {"kind": event.kind, "organization_id": event.organization_id, "job_id": event.job_id}


SHAPES = Shapes(shown, generation_event)
SETTINGS = HookSettings(timeout_s=BOUND_S, retention_s=3600.0, per_organization=20)


def wanted(url: str, *kinds: str, **other: object) -> Wanted:
    fields: dict[str, object] = {"description": None, "resource_filter": None, "max_retries": 9, "secret": None}
    return Wanted(url=url, event_filter=kinds or ("*",), **(fields | other))  # type: ignore[arg-type]  # as above


@dataclass
class Hooked:
    """An open store and its webhooks."""

    store: SqlStore
    hooks: Webhooks

    async def ended(self, **fields: object) -> Job:
        """A job that was created and cancelled: two events."""
        job = a_job(**fields)
        await self.store.create(job, 10_000)
        return await self.store.cancel(job.id)

    async def add(self, url: str, *kinds: str, **other: object) -> tuple[Webhook, str]:
        return await self.hooks.add(ORGANIZATION, wanted(url, *kinds, **other))

    async def deliveries(self) -> list[Delivery]:
        """All, oldest first."""
        table = deliveries.deliveries
        return await self.store.look(
            lambda connection: [delivery_from(row) for row in connection.execute(table.select().order_by(table.c.id))]
        )

    async def until(self, is_so: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        """The deliveries, once it is so of them."""
        async with asyncio.timeout(BOUND_S):
            while not is_so(found := await self.deliveries()):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        return found

    async def settled(self, count: int) -> list[Delivery]:
        """Once so many have been attempted."""
        return await self.until(lambda found: sum(each.attempts > 0 or each.due_at is None for each in found) >= count)


def system_clock() -> Clock:
    import time

    return Clock(time.time, lambda: 0.0)


@asynccontextmanager
async def hooked(
    folder: Path, clock: Clock | None = None, *, allowed: Allowed | None = None, key: str = KEY
) -> AsyncIterator[Hooked]:
    outbound = Outbound(allowed or Allowed.of(["127.0.0.1"]))
    clock = clock or system_clock()

    def on_commit(events: list[JobEvent]) -> None:
        hooks.on_commit(events)

    store = SqlStore(f"sqlite:///{folder}/hooked.db", on_commit, clock.now)  # type: ignore[arg-type]  # a list is one
    hooks = Webhooks(
        store, outbound, Vault([key]), shapes=SHAPES, settings=SETTINGS, on_attempt=lambda _: None, clock=clock
    )
    await store.open()
    await hooks.open()
    try:
        yield Hooked(store, hooks)
    finally:
        await hooks.close()
        await outbound.close()
        await store.close()


async def _main(folder: str, url: str, key: str) -> None:
    async with hooked(Path(folder), key=key) as box:
        await box.add(url, "job.cancelled")
        for _ in range(2):
            await box.ended()
        await asyncio.Event().wait()


OTHER_ORGANIZATION = OrganizationId("org-2")

if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
