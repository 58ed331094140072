"""How far the forecast of a job's end is off under steady load: median of |expected - real| / real, by modality.

    python scripts/bench/eta.py [text embedding image audio mixed] [--load 0.6] [--warmup 8] [--seconds 25]

A real `fabric-node up` with the models that ship. For each modality alone, then for all at once (`mixed`): how many jobs a
second it can do is measured, then jobs arrive at random (Poisson) at `load` times that rate. Each asks for an estimate
right before it is sent, and nothing is corrected afterwards. `asked` is that estimate, against what the client waited until
it saw the last event; `told` is what the job's usage shows: what the node said when it took the job in, against what the
attempt took.
"""
# minutes: 4

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx

from scripts.bench.lib.report import Row, publish
from tests.support.box import running

ROOT: Final = Path(__file__).resolve().parents[2]
AIM: Final = 0.25
SPRINT_S: Final = 6.0  # of as many jobs as it can do
SPRINTERS: Final = 16
RECORDINGS: Final = 20
STORIES: Final = ("Tell me a story.", "Write a poem about the sea.", "Tell me a short story about a red circle.")
WORDS: Final = ("the sky", "a cat", "3 plus 4", "the sea", "music", "bread", "a train", "winter")
MODALITIES: Final = ("text", "embedding", "image", "audio")
PARTS: Final = (*MODALITIES, "mixed")

Body = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one job."""

    asked_s: float
    told_s: float | None
    took_s: float
    waited_s: float


class Client:
    """Sends jobs to a running box, and measures them."""

    def __init__(self, http: httpx.AsyncClient, recordings: Sequence[str]) -> None:
        self._http, self._recordings = http, recordings

    def body(self, modality: str, chance: random.Random) -> Body:
        """Some work of the modality; how long an answer of the chat model gets is its own affair, up to a limit."""
        match modality:
            case "text":
                content, limit = chance.choice(STORIES), chance.choice((16, 32, 48, 64, 96))
                messages = [{"role": "user", "content": content}]
                return _body("text", {"messages": messages}, max_tokens=limit, temperature=0)
            case "embedding":
                texts = [" ".join(chance.choices(WORDS, k=chance.randint(5, 60))) for _ in range(chance.randint(1, 8))]
                return _body("embedding", {"texts": texts})
            case "image":
                return _body("image", {"prompt": "a red circle"}, steps=chance.choice((4, 10, 20)))
            case _:
                return _body("audio", {"asset_id": chance.choice(self._recordings)})

    async def job(self, body: Body) -> Measured:
        estimate = await self._data("POST", "/v1/providers/estimate", json=body)
        began = time.monotonic()
        job_id = (await self._data("POST", "/v1/jobs", json=body))["id"]
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events") as events:
            async for _ in events.aiter_lines():  # the stream ends with the job
                pass
        waited_s = time.monotonic() - began
        usage = await self._data("GET", f"/v1/jobs/{job_id}/usage")
        return Measured(estimate["eta"]["total_s"], usage["eta_s"], usage["took_s"], waited_s)

    async def _data(self, method: str, path: str, **more: Any) -> Any:  # Any: as httpx takes it; JSON
        return (await self._http.request(method, path, **more)).raise_for_status().json()["data"]

    async def rate(self, modality: str) -> float:
        """Jobs a second that it can do, one client's after the other."""
        chance, done = random.Random(1), 0
        await self.job(self.body(modality, chance))  # loads the model
        began = time.monotonic()

        async def sprint() -> None:
            nonlocal done
            while time.monotonic() < began + SPRINT_S:
                await self.job(self.body(modality, chance))
                done += 1

        await asyncio.gather(*(sprint() for _ in range(SPRINTERS)))
        return done / (time.monotonic() - began)

    async def steady(self, modality: str, rate: float, warmup_s: float, seconds: float) -> list[Measured]:
        """Those that began after the warm-up, of jobs that arrive at random."""
        chance, sent, at_s = random.Random(2), [], 0.0
        began = time.monotonic()
        while (at_s := at_s + chance.expovariate(rate)) < warmup_s + seconds:
            await asyncio.sleep(began + at_s - time.monotonic())
            sent.append((at_s, asyncio.create_task(self.job(self.body(modality, chance)))))
        return [await job for job_at_s, job in sent if job_at_s >= warmup_s]


def _body(modality: str, what: Body, **params: object) -> Body:
    return {"modality": modality, "input": what, "params": params}


async def measured(options: argparse.Namespace, folder: Path) -> dict[str, list[Measured]]:
    async with running(folder, ROOT / "models.toml") as box:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=box.url, timeout=120, limits=limits) as http:
            client = Client(http, await recordings(http))
            found = {name: await alone(client, name, options) for name in MODALITIES if name in options.what}
            return found | (await mixed(client, options) if "mixed" in options.what else {})


async def recordings(http: httpx.AsyncClient) -> list[str]:
    files = sorted((ROOT / "tests" / "models" / "spoken").glob("*.flac"))[:RECORDINGS]
    answers = [
        await http.post("/v1/assets", content=path.read_bytes(), params={"filename": path.name}) for path in files
    ]
    return [answer.raise_for_status().json()["data"]["id"] for answer in answers]


async def alone(client: Client, modality: str, options: argparse.Namespace) -> list[Measured]:
    rate = options.load * await client.rate(modality)
    return await client.steady(modality, rate, options.warmup, options.seconds)


async def mixed(client: Client, options: argparse.Namespace) -> dict[str, list[Measured]]:
    """All modalities at once, each with an equal part of the load."""
    shares = {name: options.load / len(MODALITIES) * await client.rate(name) for name in MODALITIES}
    streams = [client.steady(name, rate, options.warmup, options.seconds) for name, rate in shares.items()]
    found = await asyncio.gather(*streams)
    return {f"{name}, beside the others": jobs for name, jobs in zip(shares, found, strict=True)}


def errors(pairs: Sequence[tuple[float | None, float]]) -> list[float]:
    return [abs(expected - real) / real for expected, real in pairs if expected is not None and real > 0]


def bias(pairs: Sequence[tuple[float | None, float]]) -> float:
    """The median of expected over real: under 1 it promises too much."""
    return median(expected / real for expected, real in pairs if expected is not None and real > 0)


def rows(found: Mapping[str, Sequence[Measured]], load: float) -> tuple[list[Row], dict[str, object]]:
    lines: list[Row] = []
    facts: dict[str, object] = {}
    for name, jobs in found.items():
        sides: dict[str, list[tuple[float | None, float]]] = {
            "asked": [(job.asked_s, job.waited_s) for job in jobs],
            "told": [(job.told_s, job.took_s) for job in jobs],
        }
        for side, pairs in sides.items():
            off = median(errors(pairs)) * 100
            what = f"{side}, median error at {load:g} of what it can do"
            lines.append(Row(work=name, peer="", measure=what, values=[off], unit="%", at_most=AIM * 100))
        facts[name] = {"jobs": len(jobs), "waited_s": round(median(job.waited_s for job in jobs), 3)} | {
            f"{side}_bias": round(bias(pairs), 2) for side, pairs in sides.items()
        }
    return lines, facts


def _part(name: str) -> str:
    """Instead of `choices`, which with nargs="*" and nothing named looks for the empty list among them on Python 3.11."""
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", type=_part, help=f"of {', '.join(PARTS)}; all, when none is named")
    parser.add_argument("--load", type=float, default=0.6, help="of the jobs a second that it can do")
    parser.add_argument("--warmup", type=float, default=8.0, help="seconds before what counts")
    parser.add_argument("--seconds", type=float, default=25.0)
    options = parser.parse_args()
    options.what = options.what or PARTS
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(options, Path(folder)))
    lines, facts = rows(found, options.load)
    publish("eta", lines, **facts)


if __name__ == "__main__":
    main()
