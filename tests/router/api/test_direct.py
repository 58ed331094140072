"""Direct calls: execute, its stream, and the estimate."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from edge import BOUND_S, Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON
TEXT: Json = {"modality": "text", "input": {"prompt": "one two three"}}


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def text_model(response: httpx.Response) -> Json:
    """The text model of the node, as GET /v1/nodes shows it."""
    models: list[Json] = response.json()["data"][0]["models"]
    return next(model for model in models if model["id"] == "fake-text")


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (TEXT, {"text", "finish_reason"}),
        ({"modality": "embedding", "input": {"text": "a"}}, {"embeddings", "dimensions"}),
        ({"modality": "image", "input": {"prompt": "red"}}, {"images"}),
        ({"modality": "audio", "input": {"audio": "AAAA"}}, {"text", "language", "duration_s", "segments"}),
    ],
    ids=["text", "embedding", "image", "audio"],
)
async def test_a_direct_call_answers_with_the_result(box: Edge, body: Json, keys: set[str]) -> None:
    for model in (None, "echo"):
        response = await box.client.post("/v1/providers/execute", json=body | {"model": model})
        answer = response.json()["data"]
        assert response.status_code == 200
        assert set(answer) == {"provider_id", "model", "modality", "output", "usage"}
        assert (answer["provider_id"], answer["modality"]) == ("echo" if model else "node", body["modality"])
        assert set(answer["output"]) == keys


async def test_a_prompt_longer_than_the_context_is_400_at_once(box: Edge) -> None:
    body = TEXT | {"input": {"prompt": "word " * 300}}
    for path in ("execute", "execute/stream", "estimate"):
        response = await box.client.post(f"/v1/providers/{path}", json=body)
        assert error_of(response) == (400, "input_validation_failed"), path
        assert "300 tokens" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["execute", "execute/stream", "estimate"])
async def test_what_cannot_be_served_is_told(box: Edge, path: str) -> None:
    async def refused(**change: object) -> tuple[int, str]:
        return error_of(await box.client.post(f"/v1/providers/{path}", json=TEXT | change))

    assert await refused(model="gone") == (404, "model_not_found")
    assert await refused(tier="premium") == (503, "no_provider")
    assert await refused(params={"temperature": -1}) == (400, "input_validation_failed")
    assert await refused(modality="smell") == (400, "input_validation_failed")
    assert await refused(params={"max_tokens": 5000}) == (400, "input_validation_failed")


async def test_the_stream_has_the_deltas_and_the_result(box: Edge) -> None:
    response = await box.client.post("/v1/providers/execute/stream", json=TEXT)
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events[0]["event"] == "started"
    text = "".join(json.loads(event["data"])["text"] for event in events if event["event"] == "output")
    last = json.loads(events[-1]["data"])
    assert (text, events[-1]["event"]) == ("one two three", "completed")
    assert (last["provider_id"], last["model"], last["output"]["text"]) == ("node", "fake-text", "one two three")


async def test_a_recording_has_subtitles_where_they_were_asked_for_in_a_job_too(box: Edge) -> None:
    body = {"modality": "audio", "input": {"audio": "AAAA"}, "params": {"subtitles": "vtt", "task": "translate"}}
    output = (await box.client.post("/v1/providers/execute", json=body)).json()["data"]["output"]
    assert output["segments"]
    assert output["subtitles"].startswith("WEBVTT\n\n00:00:0")
    job = await box.ended((await box.client.post("/v1/jobs", json=body)).json()["data"]["id"])
    assert job["output"] == output
    wrong = await box.client.post("/v1/jobs", json={**body, "params": {"subtitles": "ass"}})
    assert (wrong.status_code, "params.subtitles" in wrong.text) == (400, True)


@pytest.mark.parametrize("path", ["execute", "execute/stream"])
async def test_a_caller_that_goes_away_cancels_its_task(own_box: Edge, gate: threading.Event, path: str) -> None:
    gate.clear()
    async with httpx.AsyncClient(base_url=own_box.url) as leaving:
        call = asyncio.create_task(leaving.post(f"/v1/providers/{path}", json=TEXT, timeout=BOUND_S))
        await own_box.until("/v1/nodes", lambda response: text_model(response)["running"] == 1)
        call.cancel()
        await asyncio.wait({call})
    # The gate is still closed: it cannot have succeeded.
    text = text_model(await own_box.until("/v1/nodes", lambda response: text_model(response)["cancelled"] == 1))
    assert (text["running"], text["succeeded"]) == (0, 0)


async def test_an_estimate_of_a_local_model_is_free_and_says_when(box: Edge) -> None:
    estimate = (await box.client.post("/v1/providers/estimate", json=TEXT)).json()["data"]
    assert set(estimate) == {
        "provider_id",
        "model",
        "modality",
        "tier",
        "available",
        "estimated_cost_usd",
        "cost_micro",
        "max_cost_micro",
        "currency",
        "usage",
        "source",
        "eta",
        "fits_memory",
        "would_evict",
    }
    assert (estimate["estimated_cost_usd"], estimate["cost_micro"], estimate["currency"]) == (0, 0, "USD")
    assert (estimate["provider_id"], estimate["model"], estimate["available"]) == ("node", "fake-text", True)
    assert estimate["usage"]["input_tokens"] == 3
    assert set(estimate["eta"]) == {"queue_s", "load_s", "run_s", "total_s"}
