"""Event streams: replay, resume, live text, an organization's stream, and their end."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge import BOUND_S, Edge, answering

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON
ECHO: Json = {"modality": "text", "model": "echo", "input": {"prompt": "hello there"}}
TEXT: Json = {"modality": "text", "input": {"prompt": "one two three"}}
LIFE = ["job.created", "job.started", "job.completed"]


@dataclass
class Event:
    id: str | None = None
    kind: str = ""
    data: Json = field(default_factory=dict)


async def parsed(response: httpx.Response) -> AsyncIterator[Event]:
    """The events of a stream, comments left out."""
    event = Event()
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        match name:
            case "id":
                event.id = value
            case "event":
                event.kind = value
            case "data":
                event.data = json.loads(value)
            case "" if event.kind:
                yield event
                event = Event()


@asynccontextmanager
async def following(edge: Edge, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    async with asyncio.timeout(BOUND_S), edge.client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parsed(response)


async def events_of(edge: Edge, path: str, **headers: str) -> list[Event]:
    async with following(edge, path, **headers) as events:
        return [event async for event in events]


async def created(edge: Edge, body: Json) -> str:
    return str((await edge.client.post("/v1/jobs", json=body)).json()["data"]["id"])


async def test_a_job_s_stream_replays_all_and_ends(edge: Edge) -> None:
    job_id = await created(edge, ECHO)
    live = await events_of(edge, f"/v1/jobs/{job_id}/events")
    replayed = await events_of(edge, f"/v1/jobs/{job_id}/events")
    assert [event.kind for event in live] == LIFE
    assert live == replayed
    assert [event.id for event in live] == ["1", "2", "3"]


async def test_an_event_has_every_key(edge: Edge) -> None:
    job_id = await created(edge, ECHO)
    for event in await events_of(edge, f"/v1/jobs/{job_id}/events"):
        assert set(event.data) == {
            "id",
            "kind",
            "organization_id",
            "job_id",
            "workflow_id",
            "run_id",
            "node_key",
            "payload",
            "timestamp",
        }
        assert (event.data["id"], event.data["kind"], event.data["job_id"]) == (event.id, event.kind, job_id)
        assert event.data["run_id"] == job_id.replace("job_", "run_")
        assert isinstance(event.data["payload"], dict)
        assert event.data["timestamp"].endswith("Z")


async def test_the_run_s_stream_is_the_job_s(edge: Edge) -> None:
    job_id = await created(edge, ECHO)
    of_run = await events_of(edge, f"/v1/workflow-runs/{job_id.replace('job_', 'run_')}/events?include_internal=true")
    assert of_run == await events_of(edge, f"/v1/jobs/{job_id}/events")


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
async def test_a_stream_resumes_without_gap_or_repeat(edge: Edge, seen: int) -> None:
    job_id = await created(edge, ECHO)
    whole = await events_of(edge, f"/v1/jobs/{job_id}/events")
    by_header = await events_of(edge, f"/v1/jobs/{job_id}/events", **{"last-event-id": str(seen)})
    by_query = await events_of(edge, f"/v1/jobs/{job_id}/events?after={seen}")
    assert by_header == by_query == whole[seen:]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30])
async def test_a_cursor_that_is_none_is_400(edge: Edge, after: str) -> None:
    job_id = await created(edge, ECHO)
    response = await edge.client.get(f"/v1/jobs/{job_id}/events?after={after}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "input_validation_failed")
    assert response.json()["error"]["message"].startswith("after: is ")


async def test_a_wrong_last_event_id_is_named_as_the_header_it_is(edge: Edge) -> None:
    response = await edge.client.get(f"/v1/jobs/{await created(edge, ECHO)}/events", headers={"last-event-id": "x"})
    assert response.json()["error"]["message"].startswith("Last-Event-ID: is 'x'")


async def test_text_comes_as_it_is_made_and_is_not_replayed(box: Edge, gate: threading.Event) -> None:
    gate.clear()
    job_id = await created(box, TEXT)
    path = f"/v1/jobs/{job_id}/events?include_output=true"
    live, replayed = "", ""
    async with following(box, path) as events:
        assert (await anext(events)).kind == "job.created"
        gate.set()
        async for event in events:
            if event.kind == "job.output":
                assert event.id is None
                live += event.data["payload"]["text"]
    for event in await events_of(box, path):  # it is not stored: the job has it
        replayed += event.data["payload"].get("text", "")
    assert live == "one two three"
    assert replayed == ""


async def test_without_being_asked_for_text_does_not_come(box: Edge) -> None:
    job_id = await created(box, TEXT)
    assert [event.kind for event in await events_of(box, f"/v1/jobs/{job_id}/events")] == LIFE


async def test_an_organization_s_stream_starts_live_and_has_its_own_jobs_alone(edge: Edge) -> None:
    await edge.ended(await created(edge, ECHO))
    async with following(edge, "/v1/events/stream?include_internal=true") as events:
        await created(edge, ECHO | {"organization_id": "acme"})
        job_id = await created(edge, ECHO)
        seen = [await anext(events) for _ in LIFE]
    assert [(event.kind, event.data["job_id"]) for event in seen] == [(kind, job_id) for kind in LIFE]


async def test_an_organization_s_stream_resumes_by_position(edge: Edge) -> None:
    for _ in range(2):
        await edge.ended(await created(edge, ECHO))
    async with following(edge, "/v1/events/stream?after=0") as events:
        whole = [await anext(events) for _ in range(6)]
    async with following(edge, "/v1/events/stream", **{"last-event-id": whole[2].id or ""}) as events:
        rest = [await anext(events) for _ in range(3)]
    assert rest == whole[3:]
    assert len({event.id for event in whole}) == 6


async def test_a_quiet_stream_is_kept_alive_by_comments(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), heartbeat_s=0.05)
    async with (
        answering(settings) as edge,
        asyncio.timeout(BOUND_S),
        edge.client.stream("GET", "/v1/events/stream") as response,
    ):
        lines = response.aiter_lines()
        beats = [line for line in [await anext(lines) for _ in range(8)] if line]
    assert beats == [": heartbeat"] * 4


async def test_the_router_s_end_ends_its_streams(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def follow(edge: Edge) -> None:
        async with following(edge, "/v1/events/stream") as events:
            connected.set()
            assert [event async for event in events] == []
        ended.set()

    connected = asyncio.Event()
    async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=())) as edge:
        task = asyncio.create_task(follow(edge))
        await asyncio.wait_for(connected.wait(), BOUND_S)
        edge.server.stop()
        await asyncio.wait_for(task, BOUND_S)
    assert ended.is_set()


async def test_a_reader_that_goes_leaves_nothing_behind(own_edge: Edge) -> None:
    async with following(own_edge, "/v1/events/stream"):
        pass
    job_id = await created(own_edge, ECHO)
    await own_edge.ended(job_id)
    assert own_edge.parts.feed.topics == 0
