"""How far the forecast of a job's end is off under steady load: median of |expected - real| / real, by modality.

    python scripts/bench/eta.py [--chats 24] [--embedders 4] [--warmup 20] [--seconds 40] [--models models.toml]

A real `fabric-node up` with the models that ship. Clients send one job after the other, so that the load is steady; each
asks for an estimate just before it sends. `told` is what the node said when it took the job in, against what the
attempt took; `asked` is the estimate, against what the client waited. The questions have answers of about one length:
how long an answer gets nobody knows before. Prints a table, then one line of JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx

from tests.support.box import running

ROOT = Path(__file__).resolve().parents[2]

QUESTIONS = ("What colour is the sky?", "What colour is grass?", "What colour is snow?", "What colour is a banana?")
TOPICS = ("the sky", "a cat", "3 plus 4", "the sea", "music", "bread", "a train", "winter")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one job."""

    asked_s: float | None
    told_s: float | None
    took_s: float
    waited_s: float


@dataclass(slots=True)
class Results:
    by_modality: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, modality: str, measured: Measured) -> None:
        self.by_modality.setdefault(modality, []).append(measured)


Body = dict[str, Any]  # Any: JSON


def chat(chance: random.Random) -> Body:
    question = chance.choice(QUESTIONS)
    params = {"max_tokens": chance.choice((32, 64, 128)), "temperature": 0}
    return {"modality": "text", "input": {"messages": [{"role": "user", "content": question}]}, "params": params}


def embedding(chance: random.Random) -> Body:
    texts = [" ".join(chance.choices(TOPICS, k=chance.randint(5, 60))) for _ in range(chance.randint(1, 8))]
    return {"modality": "embedding", "input": {"texts": texts}}


async def client(
    http: httpx.AsyncClient, make: Callable[[random.Random], Body], chance: random.Random, until: float, since: float
) -> list[tuple[str, Measured]]:
    """One job after the other until then; those that began since the warm-up."""
    found = []
    while (began := time.monotonic()) < until:
        body = make(chance)
        measured = await one(http, body)
        if began >= since:
            found.append((body["modality"], measured))
    return found


async def one(http: httpx.AsyncClient, body: Body) -> Measured:
    estimate = (await http.post("/v1/providers/estimate", json=body)).raise_for_status().json()["data"]
    began = time.monotonic()
    job_id = (await http.post("/v1/jobs", json=body)).raise_for_status().json()["data"]["id"]
    async with http.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        async for _ in events.aiter_lines():  # the stream ends with the job
            pass
    waited_s = time.monotonic() - began
    usage = (await http.get(f"/v1/jobs/{job_id}/usage")).raise_for_status().json()["data"]
    return Measured(estimate["eta"]["total_s"], usage["eta_s"], usage["took_s"], waited_s)


async def measured(options: argparse.Namespace, folder: Path) -> Results:
    results = Results()
    async with running(folder, options.models) as box:
        limits = httpx.Limits(max_connections=4 * (options.chats + options.embedders))
        async with httpx.AsyncClient(base_url=box.url, timeout=120, limits=limits) as http:
            since = time.monotonic() + options.warmup
            until = since + options.seconds
            kinds = [chat] * options.chats + [embedding] * options.embedders
            clients = [client(http, make, random.Random(seed), until, since) for seed, make in enumerate(kinds)]
            for found in await asyncio.gather(*clients):
                for modality, each in found:
                    results.add(modality, each)
    return results


def off(pairs: Sequence[tuple[float | None, float]]) -> float | None:
    """The median relative error; None without a forecast."""
    errors = [abs(expected - real) / real for expected, real in pairs if expected is not None and real > 0]
    return median(errors) if errors else None


def bias(pairs: Sequence[tuple[float | None, float]]) -> float | None:
    """The median of expected over real: under 1 it promises too much."""
    ratios = [expected / real for expected, real in pairs if expected is not None and real > 0]
    return median(ratios) if ratios else None


def figures(jobs: Sequence[Measured]) -> dict[str, float | None]:
    told = [(job.told_s, job.took_s) for job in jobs]
    asked = [(job.asked_s, job.waited_s) for job in jobs]
    return {
        "jobs": len(jobs),
        "took_s": median(job.took_s for job in jobs),
        "told_off": off(told),
        "told_bias": bias(told),
        "asked_off": off(asked),
        "asked_bias": bias(asked),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=24, help="clients that chat")
    parser.add_argument("--embedders", type=int, default=4, help="clients that embed")
    parser.add_argument("--warmup", type=float, default=20.0, help="seconds before what counts")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--models", type=Path, default=ROOT / "models.toml")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(measured(options, Path(folder)))
    report = {modality: figures(jobs) for modality, jobs in sorted(results.by_modality.items())}
    print(f"{'':10} {'jobs':>6} {'took s':>8} {'told off':>9} {'bias':>6} {'asked off':>10} {'bias':>6}")
    for modality, shown in report.items():
        cells = [shown[name] for name in ("took_s", "told_off", "told_bias", "asked_off", "asked_bias")]
        took, told, told_bias, asked, asked_bias = (float("nan") if cell is None else cell for cell in cells)
        print(
            f"{modality:10} {shown['jobs']:6} {took:8.2f} {told:9.0%} {told_bias:6.2f} {asked:10.0%} {asked_bias:6.2f}"
        )
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    print(
        json.dumps(
            {"bench": "eta", **report, "clients": [options.chats, options.embedders], **machine, "commit": commit}
        )
    )


if __name__ == "__main__":
    main()
