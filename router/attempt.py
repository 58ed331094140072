"""One attempt at a job: sent to the best place, its events written and published, until it ends or raises.

Not about which job runs when (runner.py), nor what becomes of one that raised (retries.py).
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto

from protos.errors import DeadlineExceeded, Internal
from protos.types import (
    Finished,
    Preview,
    Progress,
    Queued,
    SegmentDelta,
    Started,
    Task,
    TaskEvent,
    TextDelta,
)
from providers.registry import ProviderRegistry
from router.capacity import Place
from router.events import Feed
from router.jobs import EventKind, Job, JobState
from router.routing import Candidate, RoutingRequest, order
from router.serving import serve
from router.store.base import Ending, Lease, Store
from router.tasks import output_of, task_of


class Stop(Enum):
    """Why somebody ended the attempt from outside."""

    CANCELLED = auto()  # the job has ended: nothing is left to write
    LEASE_LOST = auto()  # somebody else runs it
    SHUTDOWN = auto()  # this router ends: the job goes back to the queue


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every attempt of a runner works with."""

    store: Store
    feed: Feed
    providers: ProviderRegistry
    clock: Callable[[], float]
    progress_every_s: float


class Attempt:
    """Runs once. `place` and `has_started` can be read meanwhile."""

    def __init__(self, lease: Lease, around: Surroundings) -> None:
        self.lease, self.job = lease, lease.job
        self.place: Place | None = None  # None: takes up no room anywhere
        self.has_started = False
        self._around = around
        self._progress_at = float("-inf")
        self._task: asyncio.Task[object] | None = None
        self.stopped: Stop | None = None

    def stop(self, why: Stop) -> None:
        """Ends it at its next step; one that has not begun does not begin. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            if self._task is not None:
                self._task.cancel()

    async def run(self) -> Ending:
        """How the job ended. Raises the FabricError that ended the attempt, LeaseLost when it no longer counts."""
        self._task = asyncio.current_task()
        task = task_of(self.job)
        try:
            async with asyncio.timeout(self.job.request.timeout_s) as timer:
                return await self._at_best_place(task)
        except TimeoutError as exc:
            if not timer.expired():
                raise Internal(f"a provider ran into a timeout of its own: {exc!r}") from exc
            raise DeadlineExceeded(
                f"job {self.job.id} took longer than its timeout_s of {self.job.request.timeout_s:g}: allow it more"
            ) from exc
        finally:
            self.place = self._task = None  # from here on a stop comes too late: the outcome is written

    async def _at_best_place(self, task: Task) -> Ending:
        providers = self._around.providers
        candidates = order(routing_request(self.job), providers.snapshots()).candidates
        async with aclosing(serve(providers, candidates, task, self._take_place)) as events:
            async for served in events:
                ending = await self._take(served.by, served.event)
                if ending is not None:
                    return ending
        raise Internal(f"the provider of job {self.job.id} ended without a result: this is a bug")

    def _take_place(self, candidate: Candidate) -> None:
        self.place = Place(candidate.provider_id, candidate.model)

    async def _take(self, candidate: Candidate, event: TaskEvent) -> Ending | None:
        store, feed, lease = self._around.store, self._around.feed, self.lease
        match event:
            case Started(node_id, model):
                self.job = await store.start(lease, candidate.provider_id, node_id, model)
                self.has_started = True
            case Progress():
                await self._report(event)
            case TextDelta(text):
                feed.publish_output(self.job.id, {"text": text})
            case SegmentDelta(segment):
                feed.publish_output(self.job.id, {"text": segment.text})
            case Finished(result, usage):
                return Ending(state=JobState.COMPLETED, output=output_of(result), usage=usage)
            case Queued() | Preview():
                pass  # not stored: where it waits is the node's to say, pictures on the way come with their assets
        return None

    async def _report(self, progress: Progress) -> None:
        """Progress in between is left out: a row for each denoising step would tell nobody more."""
        now = self._around.clock()
        if now - self._progress_at >= self._around.progress_every_s:
            self._progress_at = now
            payload = {"progress": progress.fraction, "step": progress.step, "steps": progress.steps}
            await self._around.store.append(self.lease, EventKind.PROGRESS, payload)


def routing_request(job: Job) -> RoutingRequest:
    request = job.request
    return RoutingRequest(modality=request.modality, model=request.model, tier=request.tier, privacy=request.privacy)
