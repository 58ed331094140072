"""Lists and single jobs over HTTP at a thousand jobs and at a million: they should take the same.

    python scripts/bench/lists.py [--rows 1000 1000000] [--calls 200]

The rows are written by SQL: of a hundred jobs ninety are completed text, two failed, one is cancelled; every thousandth is
of a rare model that no job failed with. Prints the query plan of each at the most jobs; that none walks what it drops is
held by tests/router/store/test_queries.py.
"""
# minutes: 3

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from protos.types import DEFAULT_ORGANIZATION, Modality
from router.jobs import JobId, JobState
from router.store import queries
from router.store.base import JobFilter
from router.store.listing import job_list
from router.store.sql import SqlStore
from scripts.bench.lib.box import box
from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.wire import Wire

# What is asked of the list, as the query has it; the middle job stands for {job}.
LISTS: Final[Mapping[str, Mapping[str, str]]] = {
    "list": {},
    "list from the middle": {"cursor": "{job}"},
    "status": {"status": "completed"},
    "rare status": {"status": "cancelled"},
    "modality": {"modality": "image"},
    "model": {"model": "rare"},
    "model and status, none": {"model": "rare", "status": "failed"},
    "all filters": {"model": "fake-text", "status": "completed", "modality": "text", "tier": "basic"},
}
CALLS: Final = {
    "one job": "/v1/jobs/{job}",
    **{name: "/v1/jobs?" + urlencode(asked, safe="{}") for name, asked in LISTS.items()},
}
# ULIDs, one a millisecond: Crockford's digits of the row's number behind a fixed beginning.
FILL: Final = """
WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < ?)
INSERT INTO jobs (id, organization_id, modality, tier, request_model, lane, priority, input, params, metadata,
                  payload_hash, privacy, created_at, state, attempts, model, progress, seq)
SELECT 'job_01HF7YAT' || printf('%018d', n), '00000000-0000-0000-0000-000000000010',
       CASE WHEN n % 20 = 0 THEN 'image' ELSE 'text' END,
       CASE WHEN n % 3 = 0 THEN 'basic' END,
       NULL, 'default:text', 50, '{"prompt": "seven"}', '{}', '{}', '', 'any', 1700000000.0 + n / 1000.0,
       CASE WHEN n % 100 = 7 THEN 'cancelled' WHEN n % 100 IN (3, 4) THEN 'failed' ELSE 'completed' END,
       1, CASE WHEN n % 1000 = 1 THEN 'rare' ELSE 'fake-text' END, 1.0, 3
FROM row
"""


@dataclass(frozen=True)
class Measured:
    """Milliseconds of each call, the fastest of many: on a busy machine the rest tells of the neighbours. And the plans."""

    fastest_ms: Mapping[str, float]
    plans: Mapping[str, Sequence[str]]


async def measured(rows: int, calls: int, folder: Path) -> Measured:
    await _make(folder)
    _fill(folder / "fabric.db", rows)
    job = f"job_01HF7YAT{rows // 2:018d}"
    plans = _plans(folder / "fabric.db", JobId(job))
    async with box(folder, with_node=False) as running:
        wire = await Wire.open(running.port)
        fastest = {name: await _fastest_ms(wire, path.format(job=job), calls) for name, path in CALLS.items()}
    return Measured(fastest, plans)


def _plans(path: Path, job: JobId) -> dict[str, Sequence[str]]:
    """How the statements behind the calls reach jobs, as the database says; what it says several times stands once."""
    statements = {"one job": (queries.job(job), {})} | {
        name: job_list(_filter(asked, job)) for name, asked in LISTS.items()
    }
    with sqlite3.connect(path) as connection:
        plans = {name: _plan(connection, *statement) for name, statement in statements.items()}
    connection.close()
    return plans


def _filter(asked: Mapping[str, str], job: JobId) -> JobFilter:
    return JobFilter(
        organization_id=DEFAULT_ORGANIZATION,
        status=JobState(asked["status"]) if "status" in asked else None,
        modality=Modality(asked["modality"]) if "modality" in asked else None,
        tier=asked.get("tier"),
        model=asked.get("model"),
        before=job if "cursor" in asked else None,
        limit=21,
    )


def _plan(connection: sqlite3.Connection, statement: Select[Any], given: Mapping[str, object]) -> Sequence[str]:
    compiled = statement.compile(dialect=sqlite.dialect())
    values = [{**compiled.params, **given}[name] for name in compiled.positiontup or ()]
    details = (row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values))
    return list(dict.fromkeys(detail for detail in details if " jobs" in detail))


async def _make(folder: Path) -> None:
    store = SqlStore(f"sqlite:///{folder / 'fabric.db'}", lambda _events: None)
    await store.open()
    await store.close()


def _fill(path: Path, rows: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(FILL, (rows,))
    connection.close()


async def _fastest_ms(wire: Wire, path: str, calls: int) -> float:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        status, answer = await wire.call("GET", path)
        took.append(time.perf_counter() - began)
        assert status == 200, answer
    return round(min(took) * 1000, 2)


def _row(call: str, fewest: int, most: int, few_ms: float, many_ms: float) -> Row:
    """At the most jobs beside the fewest. Flat: within twice, as some answers are full pages at one size alone."""
    return Row(
        work=f"jobs read over HTTP: {call}",
        peer=f"itself at {fewest:,} jobs",
        measure=f"fastest at {most:,} jobs, ms",
        values=[many_ms / few_ms],
        at_most=2.0,
        ours=many_ms,
        theirs=few_ms,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    found: dict[int, Measured] = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=".") as name:
            found[rows] = asyncio.run(measured(rows, options.calls, Path(name).absolute()))
    for call, plan in found[options.rows[-1]].plans.items():
        print(f"{call}:", *plan, sep="\n    ")
    fewest, most = options.rows[0], options.rows[-1]
    rows = [_row(call, fewest, most, found[fewest].fastest_ms[call], found[most].fastest_ms[call]) for call in CALLS]
    publish("lists", rows, calls=options.calls, sqlite=sqlite3.sqlite_version)


if __name__ == "__main__":
    main()
