"""The store protocol: jobs, the queue that their rows form, and their events.

Every method that writes returns after the write is durable. Not about SQL (sql.py) nor about who runs what (runner.py).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from protos.errors import Conflict
from protos.types import Modality, OrganizationId, Usage
from router.jobs import EventKind, Job, JobEvent, JobId, JobState, Json
from router.spending import Spent

Result = TypeVar("Result")


class LeaseLost(Conflict):
    """The job is no longer held under this lease: it was cancelled, ended, or given to somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows, newest first. `before`: the id to continue after; ids are ULIDs and sort by time."""

    organization_id: OrganizationId
    status: JobState | None = None
    modality: Modality | None = None
    tier: str | None = None
    model: str | None = None  # Job.model
    since: float | None = None  # UTC seconds; jobs created at or after
    before: JobId | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job, until `expires_at` unless renewed. A result is accepted only under the lease it was made
    under: `token` differs for each claim of a job."""

    job: Job
    token: str
    expires_at: float


Room = Callable[[Sequence[str]], Mapping[str, int]]
"""How many jobs of each of these lanes (Job.lane) may be taken. It runs on the writer's thread, so it must be pure."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim took. `next_due`: when the next one has something to do of itself: take back a released or leased
    job, or fail one whose deadline comes; None when there is no such job, in the past when it can already."""

    leases: Sequence[Lease]
    next_due: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlace:
    """Where a job is kept now. Times are UTC seconds."""

    ahead: int | None  # jobs of its lane that go first; None: it cannot be claimed now
    is_held: bool  # claimed: a router has it under a lease
    due_at: float | None  # the end of that lease, or when it can be claimed again


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended."""

    state: JobState  # terminal
    output: Json | None = None
    error: Json | None = None
    usage: Usage | None = None


class Records(Protocol):
    """The database of the store, for what is not a job: one file of this package per resource, with its tables and its
    reads and writes as plain functions of a connection."""

    def change(
        self, make: Callable[[Connection, float], Result], *, is_synced: bool = True
    ) -> "asyncio.Future[Result]":
        """What `make(connection, now)` returns, once it is durable. It runs on the writer's thread, within the next
        group commit, so it must be short. A FabricError that it raises undoes its own changes and is raised here. It is
        on its way when this returns: later writes come after it, also those of who does not wait for it.

        is_synced: a power cut does not undo it either. Without, no process that is killed loses it, and the next commit
        that is synced, of anything, takes it along."""
        ...

    async def look(self, read: Callable[[Connection], Result]) -> Result:
        """What `read(connection)` returns. It runs on a reader's thread and must not write."""
        ...

    def is_unlimited(self, organization_id: OrganizationId) -> bool:
        """No budget limits it or a key of it. True only where that is certain: every budget that is set later comes
        after a `change` that is made before anything is awaited. A database that several routers write is never."""
        ...


class Store(Records, Protocol):
    async def open(self) -> None:
        """Creates what is missing. Raises Conflict when another router owns the same SQLite file, or when its schema
        is not the one that this release writes."""
        ...

    async def close(self) -> None:
        """Writes what is queued, then closes."""
        ...

    async def create(self, job: Job, waiting_limit: int, key_limit: int | None = None) -> tuple[Job, bool]:
        """Stores a pending job and its job.created event; (job, True). With an idempotency key that exists: the
        original job and False; raises IdempotencyKeyReused when its payload differs. Raises Overloaded when
        `waiting_limit` jobs are pending already, QuotaExceeded when `key_limit` jobs of its key have not ended."""
        ...

    async def get(self, job_id: JobId) -> Job | None: ...

    async def list_jobs(self, wanted: JobFilter) -> Sequence[Job]: ...

    async def place(self, job_id: JobId) -> QueuePlace | None:
        """None: there is no such job."""
        ...

    async def claim(self, room: Room, lease_s: float) -> Claimed:
        """Takes pending jobs, and started ones whose lease has expired, in queue order: priority, then fair among
        organizations, then arrival. `room` is asked about the lanes that have any, in alphabetical order. Before that
        it fails every job that still waits and whose deadline has passed, with a job.failed event. It sees every write
        of before."""
        ...

    async def renew(self, leases: Sequence[Lease], lease_s: float) -> Sequence[JobId]:
        """Extends the leases; returns the jobs whose lease is lost."""
        ...

    def start(
        self, lease: Lease, provider_id: str, node_id: str | None, model: str, decision: Json | None = None
    ) -> "asyncio.Future[Job]":
        """Pending or started -> started, attempts + 1. A job.started event at the first attempt, with the decision that
        led there, when it is given. Raises LeaseLost. It is on its way when this returns: later writes come after it,
        also those of who does not wait for it."""
        ...

    async def append(self, lease: Lease, kind: EventKind, payload: Json) -> JobEvent:
        """Stores an event that does not change the state; job.progress also sets the job's progress, from
        payload["progress"]. Raises LeaseLost."""
        ...

    async def release(self, lease: Lease, not_before: float, cause: Json | None, spent: Sequence[Spent] = ()) -> None:
        """Gives the job back to the queue, to be claimed from `not_before` on, or failed at its deadline. With a cause: a job.retrying event.
        Without one: no event, and an attempt that began under this lease does not count. Nothing when the lease is
        lost."""
        ...

    async def finish(self, lease: Lease, ending: Ending, spent: Sequence[Spent] = ()) -> Job | None:
        """Ends the job. None, and no change, when the lease is lost or the job has ended: somebody else's end counts."""
        ...

    async def cancel(self, job_id: JobId) -> Job:
        """Ends the job as cancelled, whoever holds its lease. Raises NotFound, JobTerminal."""
        ...

    async def events_of_job(self, job_id: JobId, after: int, limit: int) -> Sequence[JobEvent]: ...

    async def turning_points(self, job_id: JobId) -> Sequence[JobEvent]:
        """The events of the job without its progress, the first hundred."""
        ...

    async def events_of_organization(
        self, organization_id: OrganizationId, after: int, limit: int
    ) -> Sequence[JobEvent]: ...

    async def last_position(self, organization_id: OrganizationId) -> int: ...

    async def count_unfinished(self) -> Mapping[JobState, int]:
        """How many jobs are pending and how many started; both keys always there."""
        ...
