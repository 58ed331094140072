"""Durable text jobs through HTTP and gRPC to a node of a fake engine, and the store alone beside them.

    python scripts/bench/jobs.py [--jobs 4000] [--connections 32] [--paced 300]

`store`: create, claim, start and finish, without HTTP. `http`: created on so many connections, each as fast as it is
acknowledged, until all have completed. `http_paced`: POST at 30 a second. `execute`: a direct call through router and
node; `engine`: the same work at the engine itself, so that the difference is what we add. Prints a table for people, then
one line of JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from node.engine import DeviceSpec, ModelSpec
from node.engines.fake import load
from protos.types import (
    DEFAULT_ORGANIZATION,
    DEFAULT_PRIORITY,
    Modality,
    ModelId,
    Task,
    TaskId,
    TextRequest,
    Usage,
)
from router.jobs import JobRequest, JobState, new_job
from router.store.base import Ending, Lease
from router.store.sql import SqlStore
from scripts.bench.lib.http_jobs import measured_http


def a_request() -> JobRequest:
    return JobRequest(
        modality=Modality.TEXT,
        input={"messages": [{"role": "user", "content": "What is 3 plus 4?"}]},
        params={"temperature": 0, "max_tokens": 16},
        organization_id=DEFAULT_ORGANIZATION,
        priority=DEFAULT_PRIORITY,
    )


async def measured_store(jobs: int, creators: int, folder: Path) -> dict[str, float]:
    """The store alone: each creator creates, and a claimer starts and finishes what it claims."""
    store = SqlStore(f"sqlite:///{folder}/store.db", lambda _events: None)
    await store.open()
    creates, todo = [], iter(range(jobs))

    async def create() -> None:
        for _ in todo:
            job = new_job(a_request(), time.time())
            began = time.perf_counter()
            await store.create(job, 100_000)
            creates.append(time.perf_counter() - began)

    async def work() -> None:
        done = 0
        async with asyncio.TaskGroup() as tasks:
            while done < jobs:
                claimed = await store.claim(lambda lanes: dict.fromkeys(lanes, 64), 10.0)
                done += len(claimed.leases)
                for lease in claimed.leases:
                    tasks.create_task(run(lease))

    async def run(lease: Lease) -> None:
        store.start(lease, "instant", "instant", "instant")
        await store.finish(lease, Ending(state=JobState.COMPLETED, output={"text": "seven"}, usage=Usage()))

    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(work(), *(create() for _ in range(creators)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    await store.close()
    return {
        "jobs_per_s": round(jobs / wall_s, 1),
        "cpu_ms_per_job": round(cpu_s / jobs * 1000, 3),  # on a shared machine the steadier of the two
        "create_p50_ms": _ms(creates, 50),
        "create_p99_ms": _ms(creates, 99),
    }


def measured_engine(calls: int) -> dict[str, float]:
    """The work of a direct call at the engine itself: its one step takes a millisecond."""
    spec = ModelSpec(id=ModelId("fake-text"), engine="fake", modality=Modality.TEXT)
    engine = load(spec, DeviceSpec(kind="cpu"))
    took = []
    for number in range(calls):
        task = Task(id=TaskId(f"task-{number}"), request=TextRequest(prompt="seven", temperature=0.0))
        began = time.perf_counter()
        engine.admit(engine.prepare(task))
        engine.step(None)
        took.append(time.perf_counter() - began)
    return {"call_p50_ms": _ms(took, 50), "call_p99_ms": _ms(took, 99)}


def _ms(seconds: list[float], percent: int) -> float:
    return round(statistics.quantiles(seconds, n=100)[percent - 1] * 1000, 2)


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--paced", type=int, default=300, help="jobs at 30 a second, and direct calls")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).absolute()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the router's own
            figures = {
                "store": runner.run(measured_store(options.jobs, options.connections, folder)),
                **runner.run(measured_http(options.jobs, options.connections, options.paced, folder)),
                "engine": measured_engine(options.paced),
            }
    added_ms = figures["execute"]["call_p50_ms"] - figures["engine"]["call_p50_ms"]
    figures["execute"]["overhead_p50_ms"] = round(added_ms, 2)
    for name, values in figures.items():
        print(f"{name:12}" + "".join(f"{key} {value:>9}   " for key, value in values.items()))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    print(json.dumps({"bench": "jobs", **vars(options), **figures, **machine, **versions, "commit": _commit()}))


if __name__ == "__main__":
    main()
