"""Every statement that runs while the table grows walks an index: none looks at all jobs, none sorts."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted import ORGANIZATION
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from protos.types import Modality, Tier
from router.jobs import JobId, JobState
from router.store import queries, transaction
from router.store.base import JobFilter
from router.store.dialect import sqlite_engines
from router.store.listing import job_list
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
    text = str(compiled).replace("IN (__[POSTCOMPILE_name_1])", "IN ('a')")
    values = tuple(None for _ in range(text.count("?")))
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]


FILTERS = {"status": JobState.FAILED, "modality": Modality.TEXT, "tier": Tier.BASIC, "model": "parrot"}
COMBINATIONS = [names for size in range(1, 5) for names in itertools.combinations(FILTERS, size)]

STATEMENTS = {
    "get": queries.job(A_JOB),
    "lanes": queries.FIRST_LANE_AFTER,
    "next due": queries.NEXT_DUE,
    "count": queries.COUNT_UNFINISHED,
    "events of a job": queries.events_of_job(A_JOB, 0, 10),
    "turning points": queries.turning_points(A_JOB),
    "events of an organization": queries.events_of_organization(ORGANIZATION, 0, 10),
    "last position": queries.last_position(ORGANIZATION),
    "claim": transaction.NEXT_IN_LANE,
    "due": transaction.DUE,
    "overdue": transaction.OVERDUE,
    "next deadline": queries.NEXT_DEADLINE,
    "place": queries.PLACE,
    "jobs ahead": queries.AHEAD,
    "jobs before a new one": queries.WAITING,
    "rows of a group": transaction.standings_among(4),
    "idempotency": transaction.ORIGINAL,
    "lowest turn": transaction.LOWEST_TURN,
    "highest turn": transaction.HIGHEST_TURN,
    "counters": transaction.counters_among(4),
    "update": transaction.UPDATE_STANDING,
    "update the ending": transaction.UPDATE_ENDING,
    "update the claimed": transaction.UPDATE_CLAIMED,
    "list": job_list(JobFilter(organization_id=ORGANIZATION))[0],
    "list from a cursor": job_list(JobFilter(organization_id=ORGANIZATION, before=A_JOB, since=1.0))[0],
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_plan_seeks_in_an_index_and_sorts_nothing(connection: Connection, name: str) -> None:
    steps = plan(connection, STATEMENTS[name])
    assert steps
    assert all(step.startswith("SEARCH") for step in steps), steps


@pytest.mark.parametrize("names", COMBINATIONS, ids=" and ".join)
def test_every_combination_of_filters_is_seeks_that_pass_over_no_job(
    connection: Connection, names: Sequence[str]
) -> None:
    wanted = JobFilter(organization_id=ORGANIZATION, before=A_JOB, **{name: FILTERS[name] for name in names})
    walks = [step for step in plan(connection, job_list(wanted)[0]) if step.startswith(("SEARCH jobs", "SCAN jobs"))]
    index, few = ("model", "model=? AND ") if "model" in names else ("kind", "")
    *merged, rows = sorted(walks)
    assert rows == "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"
    seek = f"(organization_id=? AND {few}modality=? AND tier=? AND state=? AND id<?)"
    assert set(merged) == {f"SEARCH jobs USING COVERING INDEX jobs_list_{index} {seek}"}


def test_a_claim_walks_the_queue_in_its_order(connection: Connection) -> None:
    assert plan(connection, transaction.NEXT_IN_LANE) == ["SEARCH jobs USING INDEX jobs_queue (lane=?)"]


def test_a_full_scan_would_be_seen(connection: Connection) -> None:
    from sqlalchemy import select

    from router.store import tables

    assert plan(connection, select(tables.jobs).where(tables.jobs.c.privacy == "any")) == ["SCAN jobs"]
