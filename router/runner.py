"""Claims jobs as places have room, runs each, and writes how it ended. The only one who decides when a job runs.

A killed router leaves only leases behind, which run out; so nothing here has to be undone at a start. Not about a
single run (attempt.py), nor about the decisions (capacity.py, routing.py, retries.py).
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from protos.errors import FabricError, Internal
from providers.registry import ProviderRegistry
from router.accounts import Accounts
from router.assets.attachments import Attachments
from router.attempt import Attempt, Stop, Surroundings
from router.capacity import Place, rooms
from router.events import Feed
from router.jobs import Job, JobId
from router.retries import Again, Failures, RetryPolicy, Verdict, exhausted, failed, verdict
from router.store.base import Lease, LeaseLost, Store
from router.store.usage import booked

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    lease_s: float = 10.0  # a router that stops renewing loses its jobs after this
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    poll_s: float = 5.0  # looks at the queue at least so often; the doorbell makes it look at once
    progress_every_s: float = 0.25  # stored job.progress events of one job
    stop_s: float = 5.0  # for running jobs to be taken back at a shutdown

    def __post_init__(self) -> None:
        if self.lease_s <= 0 or self.poll_s <= 0:
            raise ValueError(f"lease_s and poll_s must be positive, got {self.lease_s} and {self.poll_s}")


class Runner:
    """Made, started and closed on one event loop."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        providers: ProviderRegistry,
        settings: RunnerSettings,
        clock: Callable[[], float] = time.time,
        *,
        attachments: Attachments,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store, self._feed, self._providers, self._settings = store, feed, providers, settings
        self._clock, self._jitter = clock, jitter
        self._around = Surroundings(
            store, feed, providers, Accounts(store), attachments, clock, settings.progress_every_s
        )
        self._attempts: dict[JobId, Attempt] = {}
        self._failures: dict[JobId, Failures] = {}  # of jobs given back; forgotten at their end
        self._doorbell = asyncio.Event()
        self._is_closing = False
        self._running: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Jobs that this router runs now."""
        return len(self._attempts)

    def attempt(self, job_id: JobId) -> Attempt | None:
        """What runs of the job here now."""
        return self._attempts.get(job_id)

    def given_back(self, job_id: JobId) -> FabricError | None:
        """Why the job was given back the last time, if it was this router that did it."""
        return self._failures.get(job_id, Failures()).last

    def room(self, lane: str) -> int:
        """How many jobs of the lane a claim would take now."""
        return rooms([lane], self._providers.snapshots(), self._places()).get(lane, 0)

    def _places(self) -> Counter[Place]:
        return Counter(attempt.place for attempt in self._attempts.values() if attempt.place is not None)

    def start(self) -> None:
        self._running = asyncio.create_task(self.run(), name="runner")

    async def close(self) -> None:
        """Claims nothing more, gives the running jobs back without a penalty, and waits for that, within stop_s."""
        self._is_closing = True
        self.wake()
        for attempt in self._attempts.values():
            attempt.stop(Stop.SHUTDOWN)
        if self._running is None:
            return
        _, late = await asyncio.wait({self._running}, timeout=self._settings.stop_s)
        for task in late:
            logger.warning(
                "%d jobs were not given back in %g s: their leases run out", self.running, self._settings.stop_s
            )
            task.cancel()
            await asyncio.wait({task})
        self._running = None
        await self._around.accounts.close()

    def wake(self) -> None:
        """Something has changed that may let a job run: one is created, or a provider came or went. Who writes to the
        store right behind it has the claim in the same group: one commit for both."""
        self._doorbell.set()

    async def cancel(self, job_id: JobId) -> Job:
        """Ends the job, and its run if this router has it. Raises NotFound, JobTerminal."""
        job = await self._store.cancel(job_id)
        self._failures.pop(job_id, None)
        if job_id in self._attempts:
            self._attempts[job_id].stop(Stop.CANCELLED)
        return job

    async def run(self) -> None:
        """Until `close`."""
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._renew())
            while not self._is_closing:
                self._doorbell.clear()
                try:
                    wait_s = await self._claim(tasks)
                except Exception:  # the router lives on: the disk may have room again later
                    logger.exception("the queue cannot be read; the next look is in %g s", self._settings.poll_s)
                    wait_s = self._settings.poll_s
                await self._wait(wait_s)
            while self._attempts:  # those claimed while closing began, and those that end by themselves
                for attempt in self._attempts.values():
                    attempt.stop(Stop.SHUTDOWN)
                self._doorbell.clear()
                await self._doorbell.wait()
            renewing.cancel()

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._doorbell.wait()
        except TimeoutError:
            pass

    async def _claim(self, tasks: asyncio.TaskGroup) -> float:
        """Starts all that there is room for; the seconds until it should look again of itself."""
        snapshots, running = self._providers.snapshots(), self._places()
        claimed = await self._store.claim(lambda lanes: rooms(lanes, snapshots, running), self._settings.lease_s)
        for lease in claimed.leases:
            self._begin(lease, tasks)
        await asyncio.sleep(0)  # those begun take up their room before the next claim
        if claimed.next_due is None:
            return self._settings.poll_s
        return min(max(claimed.next_due - self._clock(), 0.0), self._settings.poll_s)

    def _begin(self, lease: Lease, tasks: asyncio.TaskGroup) -> None:
        late = self._attempts.get(lease.job.id)
        if late is not None:  # this process stood still for so long that its own lease ran out
            late.stop(Stop.LEASE_LOST)
        attempt = self._attempts[lease.job.id] = Attempt(lease, self._around)
        tasks.create_task(self._attempt(attempt))

    async def _attempt(self, attempt: Attempt) -> None:
        """The top of one job: whatever happens ends as its ending, its return to the queue, or a line in the log."""
        job_id = attempt.job.id
        try:
            outcome = await self._outcome(attempt)
            self.wake()  # its place is free, so the next job is claimed with its end
            await self._settle(attempt, outcome)
        except LeaseLost:
            logger.info("job %s: the lease was lost, its run here does not count", job_id)
        except Exception:
            logger.exception(
                "job %s: its outcome could not be written; it is run again when its lease runs out", job_id
            )
        finally:
            if self._attempts.get(job_id) is attempt:
                del self._attempts[job_id]
            await self._book(attempt)
            self._feed.drop_output(job_id)
            if self._is_closing:
                self.wake()

    async def _outcome(self, attempt: Attempt) -> Verdict | Stop:
        policy, job = self._settings.retries, attempt.job
        if attempt.stopped is not None:  # before its first step
            return attempt.stopped
        if job.attempts >= policy.max_attempts:
            return failed(exhausted(policy, None))
        try:
            return await attempt.run()
        except asyncio.CancelledError:
            if attempt.stopped is None:
                raise
            return attempt.stopped
        except LeaseLost:
            raise
        except FabricError as exc:
            error = exc
        except Exception as exc:  # becomes a failed job and one log line
            logger.exception("job %s failed by a defect", job.id)
            error = Internal(f"a defect ended the job: {exc!r}; the log has the rest under {job.id}")
        return verdict(
            error,
            has_started=attempt.has_started,
            attempts=attempt.job.attempts,
            failures=self._failures.get(job.id, Failures()),
            policy=policy,
            jitter=self._jitter(),
        )

    async def _settle(self, attempt: Attempt, outcome: Verdict | Stop) -> None:
        match outcome:
            case Stop.SHUTDOWN:
                await self._store.release(attempt.lease, self._clock(), None, attempt.take_spent())
            case Stop():
                pass
            case Again(delay_s, cause, failures):
                self._failures[attempt.job.id] = failures
                await self._store.release(attempt.lease, self._clock() + delay_s, cause, attempt.take_spent())
            case _:
                self._failures.pop(attempt.job.id, None)
                await self._store.finish(attempt.lease, outcome, attempt.take_spent())

    async def _book(self, attempt: Attempt) -> None:
        """What an attempt has cost that nobody gave an outcome: it was cancelled, or its lease was lost."""
        if spent := attempt.take_spent():
            try:
                await self._store.change(booked(spent))
            except FabricError:
                logger.exception("job %s: what it cost could not be written; its reservations stand", attempt.job.id)

    async def _renew(self) -> None:
        """All leases at once, three times within each."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            leases: list[Lease] = [attempt.lease for attempt in self._attempts.values()]
            if not leases:
                continue
            try:
                lost = await self._store.renew(leases, self._settings.lease_s)
            except FabricError:
                logger.exception("%d leases could not be renewed", len(leases))
                continue
            for job_id in lost:
                if job_id in self._attempts:
                    self._attempts[job_id].stop(Stop.LEASE_LOST)
