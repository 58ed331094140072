"""The tables of jobs and their indexes. Plain Core types: the same on SQLite and PostgreSQL. The tables of another
resource stand in its own file of this package, on the same metadata; sql.py imports each, so that it is created.

A job's place in the queue is two columns of its row. `turn` is set while it can be claimed; `due_at` is set while it
cannot: the end of its lease, or the moment until which a retry waits. Ended jobs have neither, so the indexes that
claims use hold only what waits, and stay small beside a million ended jobs. A job that waits past its `deadline_at` fails.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Double, Index, Integer, MetaData, Table, Text, UniqueConstraint

SCHEMA: Final = 2  # raised with every change of a table; sql.py refuses a file of another number

metadata: Final = MetaData()

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("key_id", Text),
    Column("modality", Text, nullable=False),
    Column("tier", Text),
    Column("request_model", Text),
    Column("lane", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("input", Text, nullable=False),  # JSON, as are params, metadata, output, error and usage
    Column("params", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("payload_hash", Text, nullable=False),
    Column("webhook_url", Text),
    Column("timeout_s", Double),
    Column("deadline_s", Double),
    Column("max_cost_usd", Double),
    Column("privacy", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", Double),
    Column("completed_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("provider_id", Text),
    Column("node_id", Text),
    Column("model", Text),
    Column("progress", Double, nullable=False),
    Column("output", Text),
    Column("error", Text),
    Column("usage", Text),
    Column("seq", Integer, nullable=False),  # of its last event
    Column("turn", BigInteger),
    Column("due_at", Double),
    Column("deadline_at", Double),
    Column("lease_token", Text),
)

_queued = jobs.c.turn.is_not(None)
_held = jobs.c.due_at.is_not(None)
_bounded = jobs.c.turn.is_not(None) & jobs.c.deadline_at.is_not(None)
_keyed = jobs.c.idempotency_key.is_not(None)

Index(
    "jobs_queue",
    jobs.c.lane,
    jobs.c.priority.desc(),
    jobs.c.turn,
    jobs.c.id,
    sqlite_where=_queued,
    postgresql_where=_queued,
)
Index(
    "jobs_turns",
    jobs.c.lane,
    jobs.c.priority,
    jobs.c.organization_id,
    jobs.c.turn,
    sqlite_where=_queued,
    postgresql_where=_queued,
)
Index("jobs_due", jobs.c.due_at, sqlite_where=_held, postgresql_where=_held)
Index(
    "jobs_idempotency",
    jobs.c.organization_id,
    jobs.c.idempotency_key,
    unique=True,
    sqlite_where=_keyed,
    postgresql_where=_keyed,
)
Index("jobs_deadline", jobs.c.deadline_at, sqlite_where=_bounded, postgresql_where=_bounded)
# Any combination of the list's filters is a few seeks in one of these (listing.py): none walks jobs that it drops.
Index("jobs_list", jobs.c.organization_id, jobs.c.id)
_FEW: Final = (jobs.c.modality, jobs.c.tier, jobs.c.state)  # columns of few values
Index("jobs_list_kind", jobs.c.organization_id, *_FEW, jobs.c.id)
Index("jobs_list_model", jobs.c.organization_id, jobs.c.model, *_FEW, jobs.c.id)

events: Final = Table(
    "events",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("timestamp", Double, nullable=False),
    Column("node_id", Text),
    UniqueConstraint("organization_id", "position"),
    sqlite_with_rowid=False,
)

# Numbers that change with every group: the pending jobs, the last event position of each organization, the schema.
counters: Final = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
