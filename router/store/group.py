"""The rows of one transaction in memory: what was read, what the operations of the group made of it, what is to write.

Not about SQL (transaction.py) nor about the rules of each operation (operations.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from protos.types import OrganizationId
from router.jobs import EventKind, Job, JobEvent, JobId, JobState, Json
from router.spending import Spent
from router.store.rows import Columns

UNFINISHED: Final = (JobState.PENDING, JobState.STARTED)  # each has a counter of its name: how many jobs are in it

IdempotencyKey = tuple[str, str]  # organization, key


def position_counter(organization_id: str) -> str:
    return f"position:{organization_id}"


def unfinished_counter(key_id: str) -> str:
    """Of the jobs of a key that have not ended."""
    return f"unfinished:{key_id}"


class Standing(NamedTuple):
    """What of a job's row changes while it lives, and what decides about that. Fields are named as the columns. A tuple:
    each write makes several, and a dataclass takes eight times as long to be replaced."""

    id: JobId
    organization_id: OrganizationId
    lane: str
    priority: int
    state: JobState
    started_at: float | None = None
    completed_at: float | None = None
    attempts: int = 0
    provider_id: str | None = None
    node_id: str | None = None
    model: str | None = None
    progress: float = 0.0
    seq: int = 0
    turn: int | None = None
    due_at: float | None = None
    deadline_at: float | None = None  # never changes
    key_id: str | None = None  # nor does this
    lease_token: str | None = None

    def but(self, **changes: Any) -> "Standing":  # Any: the columns' values
        return self._replace(**changes)


FRONT = 0  # the turn of a job that comes back to the queue: before every one that waits for its first


@dataclass(slots=True)
class Turns:
    """Fairness among organizations, decided at arrival: start-time fair queueing with one job as the unit.

    A new job takes the turn after its organization's last waiting one, but none that the queue has already passed. So
    organizations alternate however many jobs each has waiting, and claiming is one walk along an index.
    Source: Goyal, Vin, Cheng 1996, start-time fair queueing.
    """

    passed: dict[tuple[str, int], int]  # by lane and priority: the lowest turn that waits
    last: dict[tuple[str, int, str], int]  # and by organization: its highest

    def take(self, lane: str, priority: int, organization_id: str) -> int:
        key = (lane, priority, organization_id)
        first = self.passed.setdefault((lane, priority), FRONT + 1)
        self.last[key] = max(first, self.last.get(key, FRONT) + 1)
        return self.last[key]


@dataclass(slots=True)
class Group:
    """Read by the transaction, changed by operations through these methods only, then written."""

    now: float
    rows: dict[JobId, Standing]
    originals: dict[IdempotencyKey, Job]
    counters: dict[str, int]
    stored_counters: frozenset[str]  # those that have a row already
    turns: Turns
    created: list[Columns] = field(default_factory=list)
    changed: dict[JobId, Standing] = field(default_factory=dict)
    endings: list[Columns] = field(default_factory=list)
    events: list[JobEvent] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)  # by attempts that ended

    @property
    def pending(self) -> int:
        return self.counters.get(JobState.PENDING, 0)

    def unfinished(self, key_id: str) -> int:
        return self.counters.get(unfinished_counter(key_id), 0)

    def insert(self, job: Job, columns: Mapping[str, object], standing: Standing) -> Standing:
        """Adds a pending job and its first event."""
        self.rows[job.id] = standing
        self._count(standing, job.state, 1)
        if job.request.idempotency_key is not None:
            self.originals[(job.request.organization_id, job.request.idempotency_key)] = job
        request = job.request
        payload = {"status": job.state, "modality": request.modality, "tier": request.tier, "model": request.model}
        self._record(standing, EventKind.CREATED, payload)
        kept = {"created_at": job.created_at, "deadline_at": job.deadline_at, "id": job.id}
        self.created.append({**columns, **kept})
        return standing

    def put(self, row: Standing) -> None:
        """Replaces the row of a job, and keeps the count of those that have not ended."""
        was = self.rows[row.id].state
        if was is not row.state:
            self._count(row, was, -1)
            self._count(row, row.state, 1)
        self.rows[row.id] = self.changed[row.id] = row

    def put_with_event(self, row: Standing, kind: EventKind, payload: Json) -> JobEvent:
        """Replaces the row, whose seq grows by the event."""
        row = row.but(seq=row.seq + 1)
        self.put(row)
        return self._record(row, kind, payload)

    def _count(self, row: Standing, state: JobState, more: int) -> None:
        if state not in UNFINISHED:
            return
        names = [state.value] if row.key_id is None else [state.value, unfinished_counter(row.key_id)]
        for name in names:
            self.counters[name] = self.counters.get(name, 0) + more

    def _record(self, row: Standing, kind: EventKind, payload: Json) -> JobEvent:
        counter = position_counter(row.organization_id)
        position = self.counters[counter] = self.counters.get(counter, 0) + 1
        event = JobEvent(
            job_id=row.id,
            organization_id=row.organization_id,
            seq=row.seq,
            position=position,
            kind=kind,
            payload=payload,
            timestamp=self.now,
            node_id=row.node_id,
        )
        self.events.append(event)
        return event
