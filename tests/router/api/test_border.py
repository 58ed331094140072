"""The border between replay and live: subscribers come, go and resume while events are written, and the server restarts.

scripts/test --rounds 50 -x tests/router/api/test_border.py     fifty rounds in a row
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from edge import answering

from box import free_port
from router.settings import RouterSettings

SUBSCRIBERS: Final = 50
JOBS: Final = 24
EVENTS: Final = 3 * JOBS  # created, started and completed of each; a shutdown gives jobs back without an event
BOUND_S: Final = 100.0  # of a round, on two busy cores

Json = dict[str, Any]  # Any: decoded JSON


@dataclass
class Subscriber:
    """Follows a stream until it has seen `wanted` events; leaves and resumes now and then, by chance."""

    client: httpx.AsyncClient
    path: str
    wanted: int
    chance: random.Random
    ids: list[int] = field(default_factory=list)

    async def run(self) -> None:
        while len(self.ids) < self.wanted:
            try:
                await self._follow(stay=self.chance.randint(1, self.wanted))
            except httpx.TransportError:
                await asyncio.sleep(0.01)  # the server restarts: a client has nothing to wait on

    async def _follow(self, stay: int) -> None:
        last = str(self.ids[-1] if self.ids else 0)
        async with self.client.stream("GET", self.path, headers={"last-event-id": last}) as response:
            assert response.status_code == httpx.codes.OK
            async for number in _ids(response):
                self.ids.append(number)
                stay -= 1
                if stay == 0 or len(self.ids) == self.wanted:
                    return


async def _ids(response: httpx.Response) -> AsyncIterator[int]:
    """Of each event that came whole."""
    number = 0
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            number = int(line.removeprefix("id: "))
        elif not line and number:
            yield number
            number = 0


@dataclass
class Writer:
    """Creates the jobs, one after the other, whatever the server does meanwhile."""

    client: httpx.AsyncClient
    is_half_done: asyncio.Event = field(default_factory=asyncio.Event)
    created: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)

    async def run(self) -> None:
        for number in range(JOBS):
            self.created.put_nowait(await self._create(number))
            if number == JOBS // 2:
                self.is_half_done.set()

    async def _create(self, number: int) -> str:
        body = {"modality": "text", "model": "echo", "input": {"prompt": "a b"}, "idempotency_key": f"job-{number}"}
        while True:
            try:
                response = await self.client.post("/v1/jobs", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.01)  # as above
            else:
                return str(response.json()["data"]["id"])


@pytest.mark.rounds(3)
async def test_every_subscriber_gets_each_event_once_across_a_restart(tmp_path: Path, round_number: int) -> None:
    settings = RouterSettings(port=free_port(), data_dir=tmp_path, nodes=())
    chance = random.Random(round_number)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        asyncio.timeout(BOUND_S),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=BOUND_S, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        writer = Writer(client)
        subscribers = [
            Subscriber(client, "/v1/events/stream", EVENTS, random.Random(chance.random())) for _ in range(SUBSCRIBERS)
        ]
        running = [tasks.create_task(subscriber.run()) for subscriber in subscribers]
        async with answering(settings):
            writing = tasks.create_task(writer.run())
            await writer.is_half_done.wait()
        async with answering(settings):
            of_jobs = []
            for _ in range(JOBS):
                path = f"/v1/jobs/{await writer.created.get()}/events"
                of_jobs.append(Subscriber(client, path, 3, random.Random(chance.random())))
                running.append(tasks.create_task(of_jobs[-1].run()))
            await asyncio.wait([writing, *running])
    assert [subscriber.ids for subscriber in subscribers] == [list(range(1, EVENTS + 1))] * SUBSCRIBERS
    assert [subscriber.ids for subscriber in of_jobs] == [[1, 2, 3]] * JOBS
