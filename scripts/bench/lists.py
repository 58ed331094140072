"""Lists and single jobs over HTTP at a thousand jobs and at a million: they should take the same.

    python scripts/bench/lists.py [--rows 1000 1000000] [--calls 200]

The rows are written by SQL: of a hundred jobs ninety are completed text, two failed, one is cancelled; every thousandth is
of a rare model that no job failed with. Prints a table for people, then one line of JSON; the plans are held by
tests/router/store/test_queries.py.
"""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from router.store.sql import SqlStore
from scripts.bench.lib.box import box
from scripts.bench.lib.wire import Wire

CALLS: Final = {
    "one job": "/v1/jobs/{job}",
    "list": "/v1/jobs",
    "list from the middle": "/v1/jobs?cursor={job}",
    "status": "/v1/jobs?status=completed",
    "rare status": "/v1/jobs?status=cancelled",
    "modality": "/v1/jobs?modality=image",
    "model": "/v1/jobs?model=rare",
    "model and status, none": "/v1/jobs?model=rare&status=failed",
    "all filters": "/v1/jobs?model=fake-text&status=completed&modality=text&tier=basic",
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


async def measured(rows: int, calls: int, folder: Path) -> dict[str, float]:
    """Milliseconds of each call, the fastest of many: on a busy machine the rest tells of the neighbours."""
    await _make(folder)
    _fill(folder / "fabric.db", rows)
    async with box(folder, with_node=False) as running:
        wire = await Wire.open(running.port)
        job = f"job_01HF7YAT{rows // 2:018d}"
        return {name: await _fastest_ms(wire, path.format(job=job), calls) for name, path in CALLS.items()}


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


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    figures = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=".") as name:
            figures[rows] = asyncio.run(measured(rows, options.calls, Path(name).absolute()))
    print(f"{'fastest, ms':24}" + "".join(f"{rows:>12,}" for rows in figures))
    for call in CALLS:
        print(f"{call:24}" + "".join(f"{of_rows[call]:>12}" for of_rows in figures.values()))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    print(json.dumps({"bench": "lists", "fastest_ms": figures, **machine, **versions, "commit": _commit()}))


if __name__ == "__main__":
    main()
