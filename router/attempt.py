"""One attempt at a job: sent to the best place, its events written and published, until it ends or raises.

Not about which job runs when (runner.py), nor what becomes of one that raised (retries.py).
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum, auto

from protos.errors import DeadlineExceeded, FabricError, Internal
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
from router.accounts import Account, Accounts
from router.assets.attachments import Attachments
from router.candidates import Candidate, Skipped
from router.capacity import Place
from router.decisions import Asker
from router.events import Feed
from router.jobs import EventKind, Job, JobState, Json, past_deadline
from router.routing import Route, RoutingRequest
from router.serving import serve
from router.spending import Spent, micro_of
from router.spill import in_time_first
from router.store.base import Ending, Lease, LeaseLost, Store
from router.store.usage import may_have_run
from router.subtitles import with_subtitles
from router.tasks import task_of


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
    accounts: Accounts
    attachments: Attachments
    clock: Callable[[], float]
    progress_every_s: float


class Attempt:
    """Runs once. `place` and `has_started` can be read meanwhile."""

    def __init__(self, lease: Lease, around: Surroundings) -> None:
        self.lease, self.job = lease, lease.job
        self.place: Place | None = None  # None: takes up no room anywhere
        self.has_started = False
        self.position: int | None = None  # how many tasks were before it at the place, as that said
        self.began_at = around.clock()
        self._around = around
        self._progress_at = float("-inf")
        self._skipped: Sequence[Skipped] = ()
        self._account: Account | None = None
        self._task: asyncio.Task[object] | None = None
        self._seated: Callable[[], None] = lambda: None  # from there on the deadline does not end it
        self.stopped: Stop | None = None

    def stop(self, why: Stop) -> None:
        """Ends it at its next step; one that has not begun does not begin. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            if self._task is not None:
                self._task.cancel()

    def take_spent(self) -> Sequence[Spent]:
        """What its calls have cost and nobody has written yet: the caller does, with the outcome."""
        return self._account.take() if self._account is not None else ()

    async def run(self) -> Ending:
        """How the job ended. Raises the FabricError that ended the attempt, LeaseLost when it no longer counts."""
        self._task = asyncio.current_task()
        try:
            allowed_until, seated_by = self._limits(asyncio.get_running_loop().time())
            async with asyncio.timeout_at(_finite(min(allowed_until, seated_by))) as timer:
                self._seated = lambda: timer.reschedule(_finite(allowed_until))
                return await self._at_best_place()
        except TimeoutError as exc:
            if not timer.expired():
                raise Internal(f"a provider ran into a timeout of its own: {exc!r}") from exc
            raise self._late(is_seated=self.has_started or allowed_until <= seated_by) from exc
        finally:
            self.place = self._task = None  # from here on a stop comes too late: the outcome is written

    def _limits(self, now: float) -> tuple[float, float]:
        """When the attempt must have ended, and when it must have begun at its place, on the clock of `now`."""
        timeout_s, deadline_at = self.job.request.timeout_s, self.job.deadline_at
        allowed_until = math.inf if timeout_s is None else now + timeout_s
        return allowed_until, math.inf if deadline_at is None else now + deadline_at - self.began_at

    def _late(self, *, is_seated: bool) -> DeadlineExceeded:
        if not is_seated:
            return past_deadline(self.job.id)
        return DeadlineExceeded(
            f"job {self.job.id} took longer than its timeout_s of {self.job.request.timeout_s:g}: allow it more"
        )

    async def _at_best_place(self) -> Ending:
        route = self._routed(routing_request(self.job))
        self._take_place(route.candidates[0])  # also while its file is fetched
        async with self._around.attachments.loaded(self.job) as file:
            return await self._serve(task_of(self.job, file), route)

    async def _serve(self, task: Task, route: Route) -> Ending:
        providers = self._around.providers
        if route.depends_on_content:  # now it can be said what it costs and who can take it
            asked = routing_request(self.job)
            asked = replace(asked, content=task.request, paid_before=await self._paid_before())
            route = self._routed(asked)
        self._skipped = route.skipped
        candidates = await self._in_time_first(task, route.candidates)
        self._account = self._around.accounts.open(task, key_id=self.job.request.key_id, job_id=self.job.id)
        async with aclosing(serve(providers, candidates, task, self._account, self._take_place)) as events:
            async for served in events:
                ending = await self._take(served.by, served.event)
                if ending is not None:
                    return ending
        raise Internal(f"the provider of job {self.job.id} ended without a result: this is a bug")

    def _routed(self, asked: RoutingRequest) -> Route:
        of = self.job.request
        asker = Asker(organization_id=of.organization_id, key_id=of.key_id, resource_id=self.job.id, is_job=True)
        snapshots = self._around.providers.snapshots(of.organization_id)
        return self._around.accounts.decisions.route(asked, snapshots, asker)

    async def _in_time_first(self, task: Task, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """A job with a deadline goes where it should be met, if somebody can be paid for that."""
        if self.job.deadline_at is None or not any(candidate.is_paid for candidate in candidates):
            return candidates
        etas_s = await asyncio.gather(*(self._eta_s(task, candidate) for candidate in candidates))
        return in_time_first(candidates, etas_s, self.job.deadline_at - self._around.clock())

    async def _eta_s(self, task: Task, candidate: Candidate) -> float | None:
        """None: the place does not say."""
        try:
            found = await self._around.providers.get(candidate.provider_id).estimate(
                replace(task, model=candidate.model)
            )
        except FabricError:
            return None
        return found.total_s

    async def _paid_before(self) -> Sequence[str]:
        """Where an earlier attempt may have been paid, also one that a restart of the router has ended."""
        return await self._around.store.look(lambda connection: may_have_run(connection, self.job.id))

    def _take_place(self, candidate: Candidate) -> None:
        self.place = Place(candidate.provider_id, candidate.model)

    async def _take(self, candidate: Candidate, event: TaskEvent) -> Ending | None:
        feed = self._around.feed
        match event:
            case Started(node_id, model):
                self._start(candidate, node_id, model)
            case Progress():
                await self._report(event)
            case TextDelta(text, answer):
                feed.publish_text(self.job.id, text, answer)
            case SegmentDelta(segment):
                feed.publish_text(self.job.id, segment.text)
            case Finished(result, usage):
                request = self.job.request
                output = await self._around.attachments.stored_output(request.organization_id, result)
                output = with_subtitles(output, result, request.params)
                return Ending(state=JobState.COMPLETED, output=output, usage=usage)
            case Queued(position):
                self.position = position
            case Preview():
                feed.publish_preview(self.job.id, event)
        return None

    def _start(self, candidate: Candidate, node_id: str | None, model: str) -> None:
        """Not waited for: what is written later comes after it, and of a short task it is in the same group."""
        decision = decision_json(candidate, self._skipped)
        starting = self._around.store.start(self.lease, candidate.provider_id, node_id, model, decision)
        starting.add_done_callback(self._on_started)
        self.job = replace(self.job, attempts=self.job.attempts + 1)  # as the store has it
        self.has_started = True
        self._seated()

    def _on_started(self, starting: "asyncio.Future[Job]") -> None:
        """Without it the job cannot end as completed: when the disk refused it, the job is run again later."""
        if isinstance(starting.exception(), LeaseLost):
            self.stop(Stop.LEASE_LOST)

    async def _report(self, progress: Progress) -> None:
        """Progress in between is left out: a row for each denoising step would tell nobody more."""
        now = self._around.clock()
        if now - self._progress_at >= self._around.progress_every_s:
            self._progress_at = now
            payload = {"progress": progress.fraction, "step": progress.step, "steps": progress.steps}
            await self._around.store.append(self.lease, EventKind.PROGRESS, payload)


def _finite(moment: float) -> float | None:
    return None if math.isinf(moment) else moment


def routing_request(job: Job) -> RoutingRequest:
    request = job.request
    return RoutingRequest(
        modality=request.modality,
        model=request.model,
        tier=request.tier,
        privacy=request.privacy,
        deadline_at=job.deadline_at,
        max_cost_micro=None if request.max_cost_usd is None else micro_of(request.max_cost_usd),
    )


def decision_json(taken: Candidate, skipped: Sequence[Skipped]) -> Json:
    """Why a job runs where it runs, for its job.started event and for whoever asks later (explain.py)."""
    return {
        "reason": taken.reason,
        "skipped": [{"provider_id": each.provider_id, "reason": each.reason} for each in skipped],
    }
