"""Durable jobs over HTTP: a router and a node of fake engines as processes, so with the gRPC hop and its events."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from scripts.bench.lib.box import BenchBox, box
from scripts.bench.lib.wire import Wire, encoded

JOB: Final = encoded(
    {
        "modality": "text",
        "input": {"messages": [{"role": "user", "content": "seven"}]},
        "params": {"temperature": 0, "max_tokens": 16},
    }
)
DIRECT: Final = encoded({"modality": "text", "input": {"prompt": "seven"}, "params": {"temperature": 0}})
END_S: Final = 120.0  # for the last job


async def measured_http(jobs: int, connections: int, paced: int, folder: Path) -> dict[str, dict[str, float]]:
    """`saturated`: created on `connections`, each as fast as it is acknowledged, until all have completed. `paced`: POST
    at 30 a second. `execute`: a direct call, one at a time."""
    async with box(folder) as running:
        await _saturate(running, 200, connections)  # the first jobs pay for what is made once
        return {
            "http": await _saturate(running, jobs, connections),
            "http_paced": await _pace(running, paced, 30.0),
            "execute": await _execute(running, paced),
        }


async def _saturate(running: BenchBox, jobs: int, connections: int) -> dict[str, float]:
    creates: list[float] = []
    todo = iter(range(jobs))
    async with _counting_ends(running, jobs) as all_ended:

        async def create(wire: Wire) -> None:
            for _ in todo:
                creates.append(await _timed(wire, "/v1/jobs", JOB, 202))  # noqa: PERF401 - others append meanwhile

        wires = [await Wire.open(running.port) for _ in range(connections)]
        before, began, client_began = _cpu(running), time.perf_counter(), time.process_time()
        await asyncio.gather(*(create(wire) for wire in wires))
        acknowledged_s = time.perf_counter() - began
        await asyncio.wait_for(all_ended, END_S)
        wall_s, after, client_s = time.perf_counter() - began, _cpu(running), time.process_time() - client_began
        for wire in wires:
            wire.close()
    router_ms, node_ms = ((later - earlier) / jobs * 1000 for earlier, later in zip(before, after, strict=True))
    return {
        "jobs_per_s": round(jobs / wall_s, 1),
        "acknowledged_per_s": round(jobs / acknowledged_s, 1),
        "router_cpu_ms_per_job": round(router_ms, 3),
        "node_cpu_ms_per_job": round(node_ms, 3),
        "client_cpu_ms_per_job": round(client_s / jobs * 1000, 3),  # it shares the machine
        **_cuts("create", creates),
    }


async def _pace(running: BenchBox, jobs: int, per_s: float) -> dict[str, float]:
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(32):
        wires.put_nowait(await Wire.open(running.port))
    creates: list[float] = []

    async def create(at: float) -> None:
        await asyncio.sleep(at - time.perf_counter())
        wire = await wires.get()
        creates.append(await _timed(wire, "/v1/jobs", JOB, 202))
        wires.put_nowait(wire)

    began = time.perf_counter()
    await asyncio.gather(*(create(began + number / per_s) for number in range(jobs)))
    return _cuts("create", creates)


async def _execute(running: BenchBox, calls: int) -> dict[str, float]:
    wire = await Wire.open(running.port)
    return _cuts("call", [await _timed(wire, "/v1/providers/execute", DIRECT, 200) for _ in range(calls)])


async def _timed(wire: Wire, path: str, body: bytes, expected: int) -> float:
    began = time.perf_counter()
    status, answer = await wire.call("POST", path, body)
    assert status == expected, answer
    return time.perf_counter() - began


@asynccontextmanager
async def _counting_ends(running: BenchBox, jobs: int) -> AsyncIterator["asyncio.Future[None]"]:
    """Done when the organization's stream has told the end of so many jobs."""
    wire = await Wire.open(running.port)
    events = await wire.stream("/v1/events/stream")
    await events.readuntil(b"heartbeat")
    all_ended = asyncio.get_running_loop().create_future()

    async def count() -> None:
        left, rest = jobs, b""
        while left > 0:
            text = rest + await events.read(1 << 16)
            left -= text.count(b"event: job.completed")
            rest = text[-20:].rpartition(b"\n")[2] if not text.endswith(b"\n") else b""
        all_ended.set_result(None)

    counting = asyncio.create_task(count())
    try:
        yield all_ended
    finally:
        counting.cancel()
        wire.close()


def _cpu(running: BenchBox) -> tuple[float, float]:
    """Seconds that the router and the node have computed."""
    assert running.node is not None
    return _seconds(running.router), _seconds(running.node)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cuts(name: str, seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {f"{name}_p50_ms": round(cuts[49] * 1000, 2), f"{name}_p99_ms": round(cuts[98] * 1000, 2)}
