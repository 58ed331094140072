"""Durable text jobs through HTTP and gRPC to a node of a fake engine, and the store alone beside them.

    python scripts/bench/jobs.py [--jobs 4000] [--connections 32] [--paced 300]

`store`: create, claim, start and finish, without HTTP. `http`: created on so many connections, each as fast as it is
acknowledged, until all have completed. `http_paced`: POST at 30 a second. `execute`: a direct call through router and
node; `engine`: the same work at the engine itself, so that the difference is what we add.
"""
# minutes: 2

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
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
from scripts.bench.lib.report import Row, publish


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


def rows_of(figures: Mapping[str, Mapping[str, float]], connections: int) -> list[Row]:
    work, fast, paced = "durable text jobs of a fake engine", f"{connections} connections", "POST at 30 a second"
    http, direct = figures["http"], "a direct call through router and node"
    return [
        Row(work=f"{work}, {fast}", peer="", measure="jobs/s", values=[http["jobs_per_s"]], unit="", at_least=400),
        Row(
            work=f"{work}, the store alone", peer="", measure="jobs/s", values=[figures["store"]["jobs_per_s"]], unit=""
        ),
        _ms_row(f"{work}, {paced}", "p50", figures["http_paced"]["create_p50_ms"], 5),
        _ms_row(f"{work}, {paced}", "p99", figures["http_paced"]["create_p99_ms"], 20),
        _ms_row(direct, "p50 beyond the engine's own call", figures["execute"]["overhead_p50_ms"], 5),
    ]


def _ms_row(work: str, measure: str, value_ms: float, at_most: float) -> Row:
    return Row(work=work, peer="", measure=measure, values=[value_ms], unit="ms", at_most=at_most)


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
    publish("jobs", rows_of(figures, options.connections), sqlite=sqlite3.sqlite_version, **vars(options), **figures)


if __name__ == "__main__":
    main()
