"""kill -9 of the router or of the node, at any moment, under load: no acknowledged job is lost, each ends exactly once."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
from box import Box, running

ROUNDS = 20
WRITERS = 4
END_S = 60.0  # for the jobs that the last kill left over
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
                prompt = f"{self._name} says number {number}"
                self.acknowledged[await _submit(client, prompt)] = prompt
                await asyncio.sleep(0.02)


async def _submit(client: httpx.AsyncClient, prompt: str) -> str:
    body = {"modality": "text", "input": {"prompt": prompt}, "idempotency_key": prompt}
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
    while killed.total() < ROUNDS:
        await asyncio.sleep(dice.uniform(0.05, 1.0))  # the moment is the point of this test
        victim = dice.choice(["serve", "route"])
        if (child := box.child(victim)) is not None:
            child.kill()
            child.wait(10)
            killed[victim] += 1
            await box.wait_until_ready()
    return killed


async def _wait_until_ended(client: httpx.AsyncClient, jobs: Sequence[str]) -> dict[str, dict[str, object]]:
    ended: dict[str, dict[str, object]] = {}
    async with asyncio.timeout(END_S):
        for job in jobs:
            async with client.stream("GET", f"/v1/jobs/{job}/events") as events:
                async for _ in events.aiter_lines():
                    pass  # the stream ends after the terminal event
            ended[job] = (await client.get(f"/v1/jobs/{job}")).json()["data"]
    return ended


async def _kinds(client: httpx.AsyncClient, job: str) -> list[str]:
    lines = (await client.get(f"/v1/jobs/{job}/events")).text.splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


async def test_twenty_kills_lose_no_acknowledged_job(tmp_path: Path, fake_models: Path) -> None:
    async with running(tmp_path / "data", fake_models) as box:
        stop = asyncio.Event()
        writers = [Writer(box.url, f"writer-{index}") for index in range(WRITERS)]
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.run(stop))
            killed = await _kill_twenty_times(box, random.Random(7))
            stop.set()
        acknowledged = {job: prompt for writer in writers for job, prompt in writer.acknowledged.items()}

        async with httpx.AsyncClient(base_url=box.url, timeout=END_S) as client:
            ended = await _wait_until_ended(client, list(acknowledged))
            kinds = {job: await _kinds(client, job) for job in acknowledged}

    assert set(killed) == {"serve", "route"}
    assert len(set(acknowledged.values())) == len(acknowledged) > ROUNDS
    assert {job: ended[job]["status"] for job in acknowledged} == dict.fromkeys(acknowledged, "completed")
    for job, prompt in acknowledged.items():
        assert ended[job]["output"]["text"] == prompt  # type: ignore[index]  # decoded JSON
        assert sum(kind in TERMINAL for kind in kinds[job]) == 1
        assert (kinds[job][0], kinds[job][-1]) == ("job.created", "job.completed")
