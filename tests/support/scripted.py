"""A place that does as it is told, a clock that is moved by hand, and jobs to try them with."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

from protos.errors import FabricError
from protos.types import (
    DEFAULT_PRIORITY,
    Estimate,
    Finished,
    Modality,
    ModelId,
    NodeId,
    OrganizationId,
    ProviderId,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextResult,
    Tier,
    Timings,
    Usage,
)
from providers.base import Health, Offer, Snapshot
from router.jobs import Job, JobRequest, new_job
from router.store.base import Lease, Store

ORGANIZATION = OrganizationId("org-1")
MODEL = ModelId("parrot")
LANE = "default:text"
_created = itertools.count()


def a_request(**changes: Any) -> JobRequest:  # Any: the fields differ in type
    fields: dict[str, Any] = {  # Any: as above
        "modality": Modality.TEXT,
        "input": {"prompt": "say it"},
        "organization_id": ORGANIZATION,
        "priority": DEFAULT_PRIORITY,
    }
    return JobRequest(**(fields | changes))


def a_job(**changes: Any) -> Job:  # Any: the fields differ in type
    """A new job; each is a millisecond younger than the one before."""
    return new_job(a_request(**changes), 1_700_000_000.0 + next(_created) / 1000)


async def claimed(store: Store, room: Mapping[str, int], lease_s: float) -> Sequence[Lease]:
    """A claim of so many of each lane."""
    return (await store.claim(lambda _: room, lease_s)).leases


async def lanes_of(store: Store) -> Sequence[str]:
    """Those that a claim is asked about; it takes nothing of them."""
    asked: list[str] = []

    def none(lanes: Sequence[str]) -> Mapping[str, int]:
        asked.extend(lanes)
        return {}

    await store.claim(none, 1.0)
    return asked


async def next_due_of(store: Store) -> float | None:
    return (await store.claim(lambda _: {}, 1.0)).next_due


class ManualClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Step: TypeAlias = TaskEvent | FabricError | asyncio.Event | Exception
"""Yield it, raise it, or wait for it."""

STARTED = Started(NodeId("node-1"), MODEL)


def said(text: str) -> Finished:
    return Finished(TextResult(text, "stop"), Usage(input_tokens=2, output_tokens=1), Timings())


class Scripted:
    """Plays its plans, one for each call of a task; the last plan again for every call after it."""

    def __init__(
        self, *plans: Sequence[Step], provider_id: str = "scripted", max_batch: int = 4, tier: Tier = Tier.BASIC
    ) -> None:
        self.id = ProviderId(provider_id)
        self.health = Health(status="healthy")
        self.offers: Sequence[Offer] = (
            Offer(model=MODEL, modality=Modality.TEXT, is_default=True, max_batch=max_batch),
        )
        self.eta_s = 0.0  # that it says of any task
        self.plans = list(plans) or [[Queued(0), STARTED, said("done")]]
        self.calls: dict[TaskId, int] = defaultdict(int)
        self.order: list[TaskId] = []
        self.closed: list[TaskId] = []  # tasks whose iterator was closed before its end
        self.has_closed = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self._tier = tier

    def snapshot(self) -> Snapshot:
        return Snapshot(
            id=self.id,
            kind="scripted",
            tier=self._tier,
            offers=self.offers,
            health=self.health,
            is_remote=self._tier is Tier.PREMIUM,
        )

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        plan = self.plans[min(self.calls[task.id], len(self.plans) - 1)]
        self.calls[task.id] += 1
        self.order.append(task.id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        is_over = False
        try:
            for step in plan:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    is_over = True
                    raise step
                else:
                    is_over = isinstance(step, Finished)
                    yield step
        finally:
            self.at_once -= 1
            if not is_over:
                self.closed.append(task.id)
                self.has_closed.set()

    async def cancel(self, task_id: TaskId) -> None:
        """Closing the iterator is enough here."""

    async def estimate(self, task: Task) -> Estimate:
        zero = 0.0
        return Estimate(
            model=task.model or MODEL,
            usage=Usage(),
            queue_s=zero,
            load_s=zero,
            run_s=zero,
            total_s=self.eta_s,
            fits_memory=True,
        )

    async def start(self) -> None:
        """Nothing to watch."""

    async def close(self) -> None:
        """Nothing to release."""
