"""What each write does to the rows of its group. Pure: `apply` decides first and raises before it changes anything.

That makes an operation that fails harmless to the others of its transaction, without a savepoint for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from protos.errors import IdempotencyKeyReused, Overloaded, QuotaExceeded
from router.jobs import (
    TERMINAL,
    TERMINAL_KIND,
    EventKind,
    Job,
    JobEvent,
    JobId,
    JobState,
    Json,
    advance,
    error_json,
    past_deadline,
    unknown_job,
)
from router.spending import Spent
from router.store.base import Ending, Lease, LeaseLost
from router.store.group import FRONT, Group, Standing
from router.store.rows import Columns, encoded

RETRY_AFTER_S: Final = 1.0  # what a refused create is told to wait

Result_co = TypeVar("Result_co", covariant=True)


class Operation(Protocol[Result_co]):
    @property
    def job_ids(self) -> Sequence[JobId]:
        """The rows that `apply` looks at."""
        ...

    def apply(self, group: Group) -> Result_co:
        """Changes the group. Raises a FabricError, and then has changed nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Create:
    job: Job
    waiting_limit: int
    key_limit: int | None  # of unfinished jobs of its key
    columns: Columns  # of the request, encoded by the caller

    @property
    def job_ids(self) -> Sequence[JobId]:
        return ()

    def apply(self, group: Group) -> tuple[Job, bool]:
        if (original := self._original(group)) is not None:
            return original, False
        if group.pending >= self.waiting_limit:
            raise Overloaded(
                f"{group.pending} jobs are waiting, the limit is {self.waiting_limit}: retry later",
                retry_after_s=RETRY_AFTER_S,
            )
        request = self.job.request
        self._check_key(group)
        standing = Standing(
            id=self.job.id,
            organization_id=request.organization_id,
            lane=request.lane,
            priority=request.priority,
            state=self.job.state,
            model=self.job.model,
            seq=1,
            key_id=request.key_id,
            turn=group.turns.take(request.lane, request.priority, request.organization_id),
            deadline_at=self.job.deadline_at,
        )
        group.insert(self.job, self.columns, standing)
        return self.job, True

    def _check_key(self, group: Group) -> None:
        """Here, where the jobs of a key are counted: of many that come at once no more pass than may."""
        key_id = self.job.request.key_id
        if key_id is None or self.key_limit is None or group.unfinished(key_id) < self.key_limit:
            return
        raise QuotaExceeded(
            f"the key {key_id} has {group.unfinished(key_id)} jobs that have not ended, its limit is {self.key_limit}: "
            "wait for one to end",
            retry_after_s=RETRY_AFTER_S,
        )

    def _original(self, group: Group) -> Job | None:
        request = self.job.request
        if request.idempotency_key is None:
            return None
        original = group.originals.get((request.organization_id, request.idempotency_key))
        if original is not None and original.request.payload_hash != request.payload_hash:
            raise IdempotencyKeyReused(
                f"the idempotency key {request.idempotency_key!r} stands for {original.id}, which has another "
                "payload: use a new key for a new request"
            )
        return original


def _held(group: Group, lease: Lease) -> Standing | None:
    row = group.rows.get(lease.job.id)
    return row if row is not None and row.lease_token == lease.token and row.state not in TERMINAL else None


def _held_or_lost(group: Group, lease: Lease) -> Standing:
    row = _held(group, lease)
    if row is None:
        raise LeaseLost(f"job {lease.job.id} is no longer held under this lease: its run does not count")
    return row


@dataclass(frozen=True, slots=True)
class Renew:
    leases: Sequence[Lease]
    lease_s: float

    @property
    def job_ids(self) -> Sequence[JobId]:
        return [lease.job.id for lease in self.leases]

    def apply(self, group: Group) -> Sequence[JobId]:
        lost = []
        for lease in self.leases:
            row = _held(group, lease)
            if row is None:
                lost.append(lease.job.id)
            else:
                group.put(row.but(due_at=group.now + self.lease_s))
        return lost


@dataclass(frozen=True, slots=True)
class Start:
    lease: Lease
    provider_id: str
    node_id: str | None
    model: str
    decision: Json = field(default_factory=dict)  # why there, for the event

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.lease.job.id,)

    def apply(self, group: Group) -> Job:
        row = _held_or_lost(group, self.lease)
        is_first = row.state is JobState.PENDING
        row = row.but(
            state=advance(row.id, row.state, JobState.STARTED) if is_first else row.state,
            started_at=group.now if row.started_at is None else row.started_at,
            attempts=row.attempts + 1,
            provider_id=self.provider_id,
            node_id=self.node_id,
            model=self.model,
        )
        if is_first:
            payload = {"status": row.state, "provider_id": row.provider_id, "node_id": row.node_id, "model": row.model}
            group.put_with_event(row, EventKind.STARTED, payload | self.decision)
        else:
            group.put(row)
        return with_standing(self.lease.job, row)


@dataclass(frozen=True, slots=True)
class Append:
    lease: Lease
    kind: EventKind
    payload: Json

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.lease.job.id,)

    def apply(self, group: Group) -> JobEvent:
        row = _held_or_lost(group, self.lease)
        if self.kind is EventKind.PROGRESS:
            row = row.but(progress=self.payload["progress"])
        return group.put_with_event(row, self.kind, self.payload)


@dataclass(frozen=True, slots=True)
class Release:
    lease: Lease
    not_before: float
    cause: Json | None
    spent: Sequence[Spent] = ()  # by its attempts; money is gone whoever holds the lease now

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.lease.job.id,)

    def apply(self, group: Group) -> None:
        group.spent.extend(self.spent)
        row = _held(group, self.lease)
        if row is None:
            return
        again_at = self.not_before if row.deadline_at is None else min(self.not_before, row.deadline_at)
        is_due = again_at <= group.now
        row = row.but(lease_token=None, turn=FRONT if is_due else None, due_at=None if is_due else again_at)
        if self.cause is None:
            group.put(row.but(attempts=self.lease.job.attempts))
        else:
            group.put_with_event(row, EventKind.RETRYING, _retrying(row, self.cause, self.not_before))


@dataclass(frozen=True, slots=True)
class Finish:
    lease: Lease
    ending: Ending
    columns: Columns  # of the ending, encoded by the caller
    spent: Sequence[Spent] = ()  # as of Release

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.lease.job.id,)

    def apply(self, group: Group) -> Job | None:
        group.spent.extend(self.spent)
        row = _held(group, self.lease)
        if row is None:
            return None
        ending = self.ending
        row = _ended(row, ending.state, group.now)
        group.put_with_event(row, TERMINAL_KIND[ending.state], _ended_payload(row, ending))
        group.endings.append({"key": row.id, **self.columns})
        return with_standing(self.lease.job, row, output=ending.output, error=ending.error, usage=ending.usage)


@dataclass(frozen=True, slots=True)
class Cancel:
    job_id: JobId

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.job_id,)

    def apply(self, group: Group) -> None:
        row = group.rows.get(self.job_id)
        if row is None:
            raise unknown_job(self.job_id)
        row = _ended(row, JobState.CANCELLED, group.now)
        group.put_with_event(row, EventKind.CANCELLED, {"status": row.state})


@dataclass(frozen=True, slots=True)
class Requeue:
    """A lease that ran out, or a retry whose time has come: the job can be claimed again."""

    job_id: JobId

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.job_id,)

    def apply(self, group: Group) -> None:
        row = group.rows[self.job_id]
        is_orphan = row.lease_token is not None
        row = row.but(lease_token=None, due_at=None, turn=FRONT)
        if is_orphan and row.state is JobState.STARTED:
            group.put_with_event(row, EventKind.RETRYING, _retrying(row, ORPHANED, group.now))
        else:
            group.put(row)


@dataclass(frozen=True, slots=True)
class Expire:
    """The deadline of a job that still waits has passed: it fails instead of being run."""

    job_id: JobId

    @property
    def job_ids(self) -> Sequence[JobId]:
        return (self.job_id,)

    def apply(self, group: Group) -> None:
        error = error_json(past_deadline(self.job_id))
        row = _ended(group.rows[self.job_id], JobState.FAILED, group.now)
        ending = Ending(state=row.state, error=error)
        group.put_with_event(row, EventKind.FAILED, _ended_payload(row, ending))
        group.endings.append({"key": row.id, "output": None, "error": encoded(error), "usage": None})


ORPHANED: Final = {"code": "node_unavailable", "message": "the router that ran the job went away: it is run again"}


def _retrying(row: Standing, cause: Json, not_before: float) -> Json:
    return {"status": row.state, "attempts": row.attempts, "cause": cause, "not_before": not_before}


def _ended(row: Standing, state: JobState, now: float) -> Standing:
    """Raises JobTerminal."""
    return row.but(
        state=advance(row.id, row.state, state),
        completed_at=now,
        progress=1.0 if state is JobState.COMPLETED else row.progress,
        turn=None,
        due_at=None,
        lease_token=None,
    )


def _ended_payload(row: Standing, ending: Ending) -> Json:
    payload: Json = {"status": row.state, "provider_id": row.provider_id, "node_id": row.node_id, "model": row.model}
    if ending.error is not None:
        payload["error"] = ending.error
    return payload


def with_standing(job: Job, row: Standing, **ended: Any) -> Job:  # Any: of its ending, by the names of Job
    """The job as its row stands now."""
    return replace(
        job,
        state=row.state,
        started_at=row.started_at,
        completed_at=row.completed_at,
        attempts=row.attempts,
        provider_id=row.provider_id,
        node_id=row.node_id,
        model=row.model,
        progress=row.progress,
        **ended,
    )
