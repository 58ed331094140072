"""Every statement that runs while the table grows walks an index: none looks at all jobs, none sorts."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import ORGANIZATION
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from protos.types import Modality
from router.jobs import JobId, JobState
from router.store import queries, transaction
from router.store.base import JobFilter
from router.store.dialect import sqlite_engines
from router.store.sql import SqlStore

A_JOB = JobId("job_01M81NE3JWSMSX7M0A9E25SYDJ")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    path = tmp_path / "jobs.db"

    async def create() -> None:
        store = SqlStore(f"sqlite:///{path}", lambda _events: None)
        await store.open()
        await store.close()

    asyncio.run(create())
    engines = sqlite_engines(path, "OFF")
    with engines.readers.connect() as connection:
        yield connection
    engines.dispose()


def plan(connection: Connection, statement: Any) -> Sequence[str]:  # Any: a select or an update
    compiled = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": False})
    text = (
        str(compiled)
        .replace("IN (__[POSTCOMPILE_ids])", "IN ('a', 'b')")
        .replace("IN (__[POSTCOMPILE_names])", "IN ('a')")
        .replace("IN (__[POSTCOMPILE_name_1])", "IN ('a')")
    )
    values = tuple(None for _ in range(text.count("?")))
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]


FILTERS = {
    "plain": {},
    "before": {"before": A_JOB},
    "since": {"since": 1.0},
    "status": {"status": JobState.PENDING},
    "modality": {"modality": Modality.TEXT, "before": A_JOB},
    "tier": {"tier": "basic"},
    "model": {"model": "parrot", "before": A_JOB},
    "status and model": {"status": JobState.FAILED, "model": "parrot"},
}

STATEMENTS = {
    "get": queries.job(A_JOB),
    "lanes": queries.FIRST_LANE_AFTER,
    "due lanes": queries.DUE_LANES,
    "next due": queries.NEXT_DUE,
    "count": queries.COUNT_UNFINISHED,
    "events of a job": queries.events_of_job(A_JOB, 0, 10),
    "events of an organization": queries.events_of_organization(ORGANIZATION, 0, 10),
    "last position": queries.last_position(ORGANIZATION),
    "claim": transaction.NEXT_IN_LANE,
    "due": transaction.DUE,
    "rows of a group": transaction.STANDINGS,
    "idempotency": transaction.ORIGINAL,
    "lowest turn": transaction.LOWEST_TURN,
    "highest turn": transaction.HIGHEST_TURN,
    "counters": transaction.COUNTERS,
    "update": transaction.UPDATE_STANDING,
    "update the ending": transaction.UPDATE_ENDING,
    "update the claimed": transaction.UPDATE_CLAIMED,
    **{
        f"list {name}": queries.job_list(JobFilter(organization_id=ORGANIZATION, **wanted))
        for name, wanted in FILTERS.items()
    },
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_plan_seeks_in_an_index_and_sorts_nothing(connection: Connection, name: str) -> None:
    steps = plan(connection, STATEMENTS[name])
    assert steps
    assert all(step.startswith("SEARCH") for step in steps), steps


def test_a_claim_walks_the_queue_in_its_order(connection: Connection) -> None:
    assert plan(connection, transaction.NEXT_IN_LANE) == ["SEARCH jobs USING INDEX jobs_queue (lane=?)"]


def test_a_full_scan_would_be_seen(connection: Connection) -> None:
    from sqlalchemy import select

    from router.store import tables

    assert plan(connection, select(tables.jobs).where(tables.jobs.c.privacy == "any")) == ["SCAN jobs"]
