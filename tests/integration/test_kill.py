"""kill -9 of the router or of the node, at any moment, under load: no acknowledged job is lost, each ends exactly once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from box import Box, running

KILLS = 20
WRITERS = 4
WORDS = 100  # of a prompt; the fake engine says one a step, so that some jobs run at any moment
END_S = 240.0  # seconds for the jobs that the last kill left over
TERMINAL = {"job.completed", "job.failed", "job.cancelled"}


class Writer:
    """A client that submits jobs without pause and never gives up on one: it repeats a POST that got no answer under
    the same idempotency key, so that each of its prompts is exactly one job."""

    def __init__(self, url: str, name: str) -> None:
        self.acknowledged: dict[str, str] = {}  # job id -> prompt
        self._url, self._name = url, name

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        async with httpx.AsyncClient(base_url=self._url, timeout=5) as client:
            while not stop.is_set():
                number += 1
                prompt = f"{self._name} says number {number}{' again' * WORDS}"
                self.acknowledged[await _submit(client, prompt)] = prompt
                await asyncio.sleep(0.25)


async def _submit(client: httpx.AsyncClient, prompt: str) -> str:
    body = {"modality": "text", "input": {"prompt": prompt}, "idempotency_key": prompt[:40]}
    while True:
        try:
            response = await client.post("/v1/jobs", json=body)
        except httpx.TransportError:
            await asyncio.sleep(0.05)  # the router is down: its supervisor starts it again
            continue
        if response.status_code in {200, 202}:
            return str(response.json()["data"]["id"])
        assert response.status_code in {429, 503}, response.text
        await asyncio.sleep(0.05)


async def _kill_twenty_times(box: Box, dice: random.Random) -> Counter[str]:
    killed: Counter[str] = Counter()
    while killed.total() < KILLS:
        await asyncio.sleep(dice.uniform(0.05, 1.0))  # the moment is the point of this test
        for victim in dice.choice([["node.cli"], ["route"], ["node.cli", "route"]]):
            if (child := box.child(victim)) is not None:
                child.kill()
                killed[victim] += 1
        await box.wait_until_ready()
    return killed


async def _ended(client: httpx.AsyncClient, job: str) -> tuple[dict[str, Any], list[str]]:
    """The job at its end, and the kinds of its events."""
    lines = (await client.get(f"/v1/jobs/{job}/events")).text.splitlines()  # ends after the terminal event
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    return (await client.get(f"/v1/jobs/{job}")).json()["data"], kinds


async def _ends(client: httpx.AsyncClient, jobs: Sequence[str]) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Sixteen at a time: the client's pool takes quadratic time over requests that queue for a connection."""
    ends = {}
    for start in range(0, len(jobs), 16):
        some = jobs[start : start + 16]
        ends |= dict(zip(some, await asyncio.gather(*(_ended(client, job) for job in some)), strict=True))
    return ends


@pytest.mark.timeout(900)  # twenty restarts of processes that take seconds to start
@pytest.mark.rounds(1)
async def test_twenty_kills_lose_no_acknowledged_job(tmp_path: Path, fake_models: Path, round_number: int) -> None:
    # A job may be hit by one kill after the other: the bound on attempts is another test's.
    async with running(tmp_path / "data", fake_models, FABRIC_MAX_ATTEMPTS="100") as box:
        stop = asyncio.Event()
        writers = [Writer(box.url, f"writer-{index}") for index in range(WRITERS)]
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.run(stop))
            killed = await _kill_twenty_times(box, random.Random(round_number))
            stop.set()
        acknowledged = {job: prompt for writer in writers for job, prompt in writer.acknowledged.items()}
        async with httpx.AsyncClient(base_url=box.url, timeout=END_S) as client:
            ends = await _ends(client, list(acknowledged))

    assert set(killed) == {"node.cli", "route"}
    assert len(set(acknowledged.values())) == len(acknowledged) > KILLS
    assert {job: end["status"] for job, (end, _) in ends.items()} == dict.fromkeys(acknowledged, "completed")
    assert any(end["attempts"] > 1 for end, _ in ends.values()), "no kill hit a running job: the test shows nothing"
    for job, (end, kinds) in ends.items():
        assert end["output"]["text"] == acknowledged[job]
        assert sum(kind in TERMINAL for kind in kinds) == 1
        assert (kinds[0], kinds[-1]) == ("job.created", "job.completed")
