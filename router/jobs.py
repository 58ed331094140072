"""A durable job and the one table of its states. Pure.

Not about where a job is stored (store/) nor how it is run (runner.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NewType

from protos.errors import Conflict, DeadlineExceeded, FabricError, JobTerminal, NotFound
from protos.types import Modality, OrganizationId, Tier, Usage
from router.ids import first_ulid, ulid

JobId = NewType("JobId", str)
Json = dict[str, Any]  # Any: decoded JSON


class JobState(StrEnum):
    PENDING = "pending"
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})

NEXT: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.PENDING: frozenset({JobState.STARTED, JobState.FAILED, JobState.CANCELLED}),
    JobState.STARTED: frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
}


def advance(job_id: JobId, now: JobState, to: JobState) -> JobState:
    """The only way a job changes state. Terminal states accept nothing."""
    if now in TERMINAL:
        raise JobTerminal(f"job {job_id} has already {_ENDED[now]}: a job that has ended does not change")
    if to not in NEXT[now]:
        raise Conflict(f"job {job_id} cannot go from {now} to {to}")
    return to


_ENDED: Final = {JobState.COMPLETED: "completed", JobState.FAILED: "failed", JobState.CANCELLED: "been cancelled"}


class EventKind(StrEnum):
    CREATED = "job.created"
    STARTED = "job.started"
    PROGRESS = "job.progress"
    RETRYING = "job.retrying"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    OUTPUT = "job.output"  # live only, never stored


TERMINAL_KIND: Final = {
    JobState.COMPLETED: EventKind.COMPLETED,
    JobState.FAILED: EventKind.FAILED,
    JobState.CANCELLED: EventKind.CANCELLED,
}
TERMINAL_KINDS: Final = frozenset(TERMINAL_KIND.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a client asked for, checked and complete."""

    modality: Modality
    input: Json
    params: Json = field(default_factory=dict)
    tier: Tier | None = None
    model: str | None = None
    organization_id: OrganizationId
    key_id: str | None = None  # of the API key that sent it: whose limits and budget it counts against
    idempotency_key: str | None = None
    payload_hash: str = ""  # of everything that makes two requests the same, for the idempotency key
    priority: int
    metadata: Json = field(default_factory=dict)
    webhook_url: str | None = None
    timeout_s: float | None = None  # of one attempt, from its dispatch to its end
    deadline_s: float | None = None  # from its creation
    max_cost_usd: float | None = None
    privacy: str = "any"  # any, local_only

    @property
    def lane(self) -> str:
        return lane_of(self.modality, self.model)


DEFAULT_LANE: Final = "default:"


def lane_of(modality: Modality, model: str | None) -> str:
    """Jobs of one lane wait for the same thing: the model that was asked for, or the default of the modality."""
    return model or DEFAULT_LANE + modality


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row: the one truth about a job, and its place in the queue. Times are UTC seconds since the epoch."""

    id: JobId
    request: JobRequest
    state: JobState
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    attempts: int = 0
    provider_id: str | None = None
    node_id: str | None = None
    model: str | None = None  # that serves it; until it starts, the one that was asked for
    output: Json | None = None
    error: Json | None = None  # {code, message}
    usage: Usage | None = None
    progress: float = 0.0

    @property
    def lane(self) -> str:
        return self.request.lane

    @property
    def deadline_at(self) -> float | None:
        """A job that still waits then fails; one that runs goes on."""
        return None if self.request.deadline_s is None else self.created_at + self.request.deadline_s

    @property
    def run_id(self) -> str:
        return "run_" + self.id.removeprefix("job_")


def new_job(request: JobRequest, now: float) -> Job:
    """A pending job, created now. Its id is a ULID of that time, so that ids sort as the jobs arrived."""
    return Job(
        id=JobId(f"job_{ulid(now)}"),
        request=request,
        state=JobState.PENDING,
        created_at=now,
        model=request.model,
    )


def unknown_job(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id[:80]!r}: GET /v1/jobs lists yours")


def past_deadline(job_id: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"job {job_id} still waited when its deadline_s was over: allow it more, or give it a higher priority"
    )


def error_json(error: FabricError) -> Json:
    """A job's `error`, as wire.md has it."""
    return {"code": error.code.value, "message": error.message}


def first_id_at(moment: float) -> JobId:
    """The smallest id that a job created at `moment` can have."""
    return JobId(f"job_{first_ulid(moment)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One stored event. `seq` counts per job from 1; `position` per organization, assigned inside the transaction."""

    job_id: JobId
    organization_id: OrganizationId
    seq: int
    position: int
    kind: EventKind
    payload: Json
    timestamp: float
    node_id: str | None = None

    @property
    def is_terminal(self) -> bool:
        return self.kind in TERMINAL_KINDS
