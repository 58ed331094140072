"""A thousand open event streams on one router: its memory, and how late events reach who follows them.

    python scripts/bench/streams.py [--streams 1000] [--busy 10] [--seconds 15] [--events 200]

`busy` streams follow the organization whose jobs run, at so many events a second; the others follow organizations where
nothing happens, as most do. Late: from the event's own timestamp, before its commit, to its last byte at the reader.
"""
# minutes: 1

import argparse
import asyncio
import re
import resource
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import psutil

from scripts.bench.lib.box import BenchBox, box
from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.wire import Wire, encoded

JOB: Final = encoded({"modality": "text", "model": "echo", "input": {"prompt": "seven"}, "organization_id": "busy"})
EVENTS_OF_JOB: Final = 3  # created, started, completed
OPENING: Final = 50  # at once
_TIMESTAMP: Final = re.compile(rb'"timestamp": ?"([^"]+)"')


async def measured(streams: int, busy: int, seconds: float, events_per_s: float, folder: Path) -> dict[str, float]:
    async with box(folder, with_node=False) as running:
        before = running.router.memory_info().rss
        began = time.perf_counter()
        wires = await _opened(running, [f"idle-{number}" for number in range(streams - busy)] + ["busy"] * busy)
        opened_s = time.perf_counter() - began
        idle, cpu_before = running.router.memory_info().rss, _cpu(running.router)
        await asyncio.sleep(5.0)
        idle_cpu = (_cpu(running.router) - cpu_before) / 5.0
        late: list[float] = []
        readers = [asyncio.create_task(_read(reader, late)) for _, reader in wires[-busy:]]
        cpu_before = _cpu(running.router)
        await _write(running, seconds, events_per_s / EVENTS_OF_JOB)
        busy_cpu = (_cpu(running.router) - cpu_before) / seconds
        await asyncio.sleep(1.0)
        for reader in readers:
            reader.cancel()
        cuts = statistics.quantiles(late, n=100)
        return {
            "streams": streams,
            "opened_in_s": round(opened_s, 2),
            "rss_mb_before": round(before / 1e6, 1),
            "rss_mb_open": round(idle / 1e6, 1),
            "rss_mb_after": round(running.router.memory_info().rss / 1e6, 1),
            "cpu_idle": round(idle_cpu, 3),
            "cpu_busy": round(busy_cpu, 3),
            "events_seen": len(late),
            "late_p50_ms": round(cuts[49] * 1000, 1),
            "late_p99_ms": round(cuts[98] * 1000, 1),
        }


async def _opened(running: BenchBox, organizations: list[str]) -> list[tuple[Wire, asyncio.StreamReader]]:
    gate = asyncio.Semaphore(OPENING)

    async def opened(organization: str) -> tuple[Wire, asyncio.StreamReader]:
        async with gate:
            wire = await Wire.open(running.port)
            reader = await wire.stream("/v1/events/stream", f"X-Organization-Id: {organization}\r\n")
            await reader.readuntil(b"heartbeat")
            return wire, reader

    return list(await asyncio.gather(*(opened(organization) for organization in organizations)))


async def _read(reader: asyncio.StreamReader, late: list[float]) -> None:
    while True:
        text = await reader.readuntil(b"\n\n")
        now = time.time()
        late.extend(now - datetime.fromisoformat(stamp.decode()).timestamp() for stamp in _TIMESTAMP.findall(text))


async def _write(running: BenchBox, seconds: float, jobs_per_s: float) -> None:
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(16):
        wires.put_nowait(await Wire.open(running.port))

    async def create(at: float) -> None:
        await asyncio.sleep(at - time.perf_counter())
        wire = await wires.get()
        status, answer = await wire.call("POST", "/v1/jobs", JOB)
        assert status == 202, answer
        wires.put_nowait(wire)

    began = time.perf_counter()
    await asyncio.gather(*(create(began + number / jobs_per_s) for number in range(int(seconds * jobs_per_s))))


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--events", type=float, default=200.0, help="a second")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, options.streams + 1000), hard), hard))  # the router's too
    with tempfile.TemporaryDirectory(dir=".") as name:
        figures = asyncio.run(
            measured(options.streams, options.busy, options.seconds, options.events, Path(name).absolute())
        )
    for name, value in figures.items():
        print(f"{name:14} {value:>10}")
    work, late = f"{options.streams} open event streams on one router", f"events at {options.events:g} a second, late"
    rows = [
        Row(
            work=work, peer="", measure="memory of the router", values=[figures["rss_mb_after"]], unit="MB", at_most=300
        ),
        Row(work=work, peer="", measure=f"{late}, p50", values=[figures["late_p50_ms"]], unit="ms"),
        Row(work=work, peer="", measure=f"{late}, p99", values=[figures["late_p99_ms"]], unit="ms", at_most=50),
    ]
    publish("streams", rows, **figures)


if __name__ == "__main__":
    main()
