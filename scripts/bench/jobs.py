"""Jobs per second of the store and the runner in one process: created by many at once, run by an instant provider.

    python scripts/bench/jobs.py [--jobs 4000] [--creators 32] [--store-only]

Prints a table for people, then one line of JSON. What it leaves out: HTTP, gRPC, and the work itself.
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
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from protos.types import (
    DEFAULT_ORGANIZATION,
    DEFAULT_PRIORITY,
    Estimate,
    Finished,
    Modality,
    ModelId,
    NodeId,
    ProviderId,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextResult,
    Tier,
    Timings,
    Usage,
)
from providers.base import Health, Offer, Snapshot
from providers.registry import ProviderRegistry
from router.events import Feed
from router.jobs import JobEvent, JobId, JobRequest, JobState, new_job
from router.runner import Runner, RunnerSettings
from router.store.base import Ending, Lease
from router.store.sql import SqlStore

MODEL = ModelId("instant")


class Instant:
    """A provider that has the answer already."""

    id = ProviderId("instant")

    def snapshot(self) -> Snapshot:
        offer = Offer(model=MODEL, modality=Modality.TEXT, is_default=True, max_batch=64)
        return Snapshot(id=self.id, kind="instant", tier=Tier.BASIC, offers=(offer,), health=Health(status="healthy"))

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        yield Queued(0)
        yield Started(NodeId("instant"), task.model or MODEL)
        yield Finished(TextResult("seven", "stop"), Usage(input_tokens=8, output_tokens=1), Timings())

    async def cancel(self, task_id: TaskId) -> None: ...

    async def estimate(self, task: Task) -> Estimate:
        zero = 0.0
        return Estimate(
            model=task.model or MODEL,
            usage=Usage(),
            queue_s=zero,
            load_s=zero,
            run_s=zero,
            total_s=zero,
            fits_memory=True,
        )

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Ends:
    """Waits for the terminal event of each job."""

    def __init__(self) -> None:
        self._ends: dict[JobId, asyncio.Future[None]] = {}

    def expect(self, job_id: JobId) -> "asyncio.Future[None]":
        return self._ends.setdefault(job_id, asyncio.get_running_loop().create_future())

    def ring(self, events: Sequence[JobEvent]) -> None:
        for event in events:
            if event.is_terminal and event.job_id in self._ends:
                self._ends.pop(event.job_id).set_result(None)


def a_request() -> JobRequest:
    return JobRequest(
        modality=Modality.TEXT,
        input={"messages": [{"role": "user", "content": "What is 3 plus 4?"}]},
        params={"temperature": 0, "max_tokens": 16},
        organization_id=DEFAULT_ORGANIZATION,
        priority=DEFAULT_PRIORITY,
    )


async def measured(jobs: int, creators: int, folder: str) -> dict[str, float]:
    """Store and runner: create to completed."""
    ends, feeds = Ends(), []

    def on_commit(events: Sequence[JobEvent]) -> None:
        feeds[0].ring(events)
        ends.ring(events)

    store = SqlStore(f"sqlite:///{folder}/jobs.db", on_commit)
    feeds.append(Feed(store))
    await store.open()
    providers = ProviderRegistry([Instant()])
    await providers.start()
    runner = Runner(store, feeds[0], providers, RunnerSettings())
    runner.start()
    creates, todo = [], iter(range(jobs))

    async def create() -> None:
        for _ in todo:
            job = new_job(a_request(), time.time())
            end = ends.expect(job.id)
            began = time.perf_counter()
            await store.create(job, 100_000)
            creates.append(time.perf_counter() - began)
            runner.wake()
            await end

    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(*(create() for _ in range(creators)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    await runner.close()
    await store.close()
    return _figures(jobs, wall_s, cpu_s, creates)


async def measured_store(jobs: int, creators: int, folder: str) -> dict[str, float]:
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
                leases = await store.claim({job_lane: 64}, 10.0)
                done += len(leases)
                for lease in leases:
                    tasks.create_task(run(lease))

    async def run(lease: Lease) -> None:
        await store.start(lease, "instant", "instant", "instant")
        await store.finish(lease, Ending(state=JobState.COMPLETED, output={"text": "seven"}, usage=Usage()))

    job_lane = a_request().lane
    began, cpu_began = time.perf_counter(), time.process_time()
    await asyncio.gather(work(), *(create() for _ in range(creators)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    await store.close()
    return _figures(jobs, wall_s, cpu_s, creates)


def _figures(jobs: int, wall_s: float, cpu_s: float, creates: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(creates, n=100)
    return {
        "jobs_per_s": round(jobs / wall_s, 1),
        "cpu_ms_per_job": round(cpu_s / jobs * 1000, 3),  # on a shared machine the steadier of the two
        "create_p50_ms": round(cuts[49] * 1000, 2),
        "create_p99_ms": round(cuts[98] * 1000, 2),
    }


def _commit() -> str:
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--creators", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        figures = {
            "store": asyncio.run(measured_store(options.jobs, options.creators, folder)),
            "store_and_runner": asyncio.run(measured(options.jobs, options.creators, folder)),
        }
    for name, values in figures.items():
        print(f"{name:18}" + "".join(f"{key} {value:>9}   " for key, value in values.items()))
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    print(json.dumps({"bench": "jobs", **vars(options), **figures, **machine, **versions, "commit": _commit()}))


if __name__ == "__main__":
    main()
