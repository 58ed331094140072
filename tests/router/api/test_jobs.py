"""Jobs over HTTP: what a good one becomes, and what each bad one is told."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge import Edge, answering

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON
ECHO: Json = {"modality": "text", "model": "echo", "input": {"prompt": "hello there"}}
TEXT: Json = {"modality": "text", "input": {"prompt": "one two three"}}
NOBODY = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"
KEYS = {
    "id",
    "job_id",
    "workflow_run_id",
    "status",
    "modality",
    "tier",
    "model",
    "provider_id",
    "node_id",
    "input",
    "params",
    "output",
    "error",
    "usage",
    "attempts",
    "priority",
    "progress",
    "organization_id",
    "metadata",
    "created_at",
    "started_at",
    "completed_at",
}


async def created(edge: Edge, **changes: Any) -> Json:  # Any: fields of a body
    response = await edge.client.post("/v1/jobs", json=ECHO | changes)
    assert response.status_code in {200, 202}, response.text
    job: Json = response.json()["data"]
    return job


def errors_of(response: httpx.Response) -> dict[str, str]:
    """path -> message of a 400's details."""
    body = response.json()
    assert (response.status_code, body["error"]["code"]) == (400, "input_validation_failed"), body
    return {each["path"]: each["message"] for each in body["error"]["details"]["errors"]}


# ---- good ones ----


async def test_a_new_job_is_202_with_its_place_and_all_its_keys(shared: Edge) -> None:
    response = await shared.client.post("/v1/jobs", json=ECHO)
    job = response.json()["data"]
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert set(job) == KEYS
    assert job["id"] == job["job_id"]
    assert job["workflow_run_id"] == job["id"].replace("job_", "run_")
    assert (job["status"], job["attempts"], job["progress"], job["priority"]) == ("pending", 0, 0.0, 50)
    assert (job["usage"], job["metadata"], job["params"], job["output"]) == ({}, {}, {}, None)
    assert job["organization_id"] == "00000000-0000-0000-0000-000000000010"
    assert job["created_at"].endswith("Z")


async def test_an_ended_job_has_its_output_and_usage(box: Edge) -> None:
    job = await box.ended((await created(box, **TEXT, model=None))["id"])
    assert set(job) == KEYS
    assert (job["status"], job["provider_id"], job["node_id"], job["model"]) == (
        "completed",
        "node",
        "node-0",
        "fake-text",
    )
    assert job["output"] == {"text": "one two three", "finish_reason": "stop"}
    assert job["usage"]["output_tokens"] == 3  # type: ignore[index]  # decoded JSON
    assert (job["attempts"], job["progress"], job["error"]) == (1, 1.0, None)
    usage = (await box.client.get(f"/v1/jobs/{job['id']}/usage")).json()["data"]
    assert (usage["job_id"], usage["input_tokens"], usage["output_tokens"]) == (job["id"], 3, 3)
    assert (usage["estimated_cost_usd"], usage["cost_micro"], usage["currency"]) == (0, 0, "USD")
    assert usage["device_seconds"] >= 0


async def test_an_embedding_job_of_three_texts(box: Edge) -> None:
    made = await created(box, modality="embedding", model=None, input={"texts": ["a", "b", "a"]})
    output: Json = (await box.ended(made["id"]))["output"]  # type: ignore[assignment]  # decoded JSON
    assert output["dimensions"] == len(output["embeddings"][0]) == 8
    assert output["embeddings"][0] == output["embeddings"][2] != output["embeddings"][1]


async def test_metadata_and_the_organization_come_back(edge: Edge) -> None:
    job = await created(edge, metadata={"a": [1, {"b": None}]}, organization_id="acme")
    shown = (await edge.client.get(f"/v1/jobs/{job['id']}?organization_id=acme")).json()["data"]
    assert (shown["metadata"], shown["organization_id"]) == ({"a": [1, {"b": None}]}, "acme")


async def test_the_organization_may_be_in_a_header(edge: Edge) -> None:
    response = await edge.client.post("/v1/jobs", json=ECHO, headers={"x-organization-id": "acme"})
    assert response.json()["data"]["organization_id"] == "acme"


async def test_null_stands_for_a_field_left_out(edge: Edge) -> None:
    empty = dict.fromkeys(("params", "metadata", "tier", "webhook_url", "timeout_s", "idempotency_key"))
    job = await created(edge, **empty)
    assert (job["params"], job["metadata"], job["tier"]) == ({}, {}, None)


# ---- bad ones ----


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"modality": "smell"}, "modality"),
        ({"tier": "gold"}, "tier"),
        ({"priority": 101}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"privacy": "secret"}, "privacy"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"organization_id": "a b"}, "organization_id"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"colour": "red"}, "colour"),
        ({"input": "hello"}, "input"),
        ({"input": {}}, "input"),
        ({"input": {"prompt": ""}}, "input.prompt"),
        ({"input": {"prompt": "x", "messages": []}}, "input.messages"),
        ({"input": {"prompt": "x" * 1_000_001}}, "input"),
        ({"params": {"temperature": -1}}, "params.temperature"),
        ({"params": {"temperature": "hot"}}, "params.temperature"),
        ({"params": {"max_tokens": 0}}, "params.max_tokens"),
        ({"params": {"warmth": 1}}, "params.warmth"),
        ({"modality": "embedding", "input": {"text": ""}}, "input.text"),
        ({"modality": "embedding", "input": {"texts": []}}, "input.texts"),
        ({"modality": "embedding", "input": {"texts": ["a", " "]}}, "input.texts[1]"),
        ({"modality": "audio", "input": {"audio": "not base64!"}}, "input.audio"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
async def test_a_wrong_field_is_400_and_named_and_nothing_is_stored(edge: Edge, change: Json, path: str) -> None:
    response = await edge.client.post("/v1/jobs", json=ECHO | change)
    assert path in errors_of(response)
    assert (await edge.client.get("/v1/jobs")).json()["data"]["jobs"] == []


async def test_the_message_has_the_value(edge: Edge) -> None:
    response = await edge.client.post("/v1/jobs", json=ECHO | {"params": {"temperature": -1}})
    assert "-1" in errors_of(response)["params.temperature"]


async def test_the_message_is_about_the_value_not_its_python_type(edge: Edge) -> None:
    body = ECHO | {"input": {"prompt": ""}, "params": {"stop": [""] * 17}}
    assert errors_of(await edge.client.post("/v1/jobs", json=body)) == {
        "input.prompt": "should have at least 1 character, got ''",
        "params.stop": "should have at most 16 items, not 17, got ['', '', '', '', '', '', '', '', '', '', '', '', '', '', ...",
    }


async def test_every_wrong_field_is_named_at_once(edge: Edge) -> None:
    body = ECHO | {"input": {}, "params": {"temperature": -1, "top_p": 7}}
    assert set(errors_of(await edge.client.post("/v1/jobs", json=body))) == {
        "input",
        "params.temperature",
        "params.top_p",
    }


async def test_a_missing_field_is_named(edge: Edge) -> None:
    assert errors_of(await edge.client.post("/v1/jobs", json={})) == {"modality": "is missing", "input": "is missing"}


async def test_a_missing_body_is_named(edge: Edge) -> None:
    response = await edge.client.post("/v1/jobs", headers={"content-type": "application/json"})
    assert errors_of(response) == {"": "the body is missing: send a JSON object"}


@pytest.mark.parametrize("text", ["NaN", "Infinity", '"\\ud83d"'])
async def test_what_json_cannot_say_is_400(edge: Edge, text: str) -> None:
    body = '{"modality":"text","model":"echo","input":{"prompt":"x"},"metadata":{"a":' + text + "}}"
    response = await edge.client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert "metadata" in errors_of(response)


async def test_an_unknown_model_is_404_and_the_known_ones_are_named(box: Edge) -> None:
    response = await box.client.post("/v1/jobs", json=TEXT | {"model": "gone"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert "'gone'" in error["message"]
    assert "fake-text" in error["message"]


async def test_a_model_of_another_modality_is_404_and_says_what_it_serves(box: Edge) -> None:
    response = await box.client.post("/v1/jobs", json=TEXT | {"model": "fake-embedding"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert "serves embedding, not text" in response.json()["error"]["message"]


async def test_what_nothing_configured_ever_serves_is_503(edge: Edge) -> None:
    response = await edge.client.post("/v1/jobs", json=TEXT | {"tier": "premium"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "no_provider")
    assert error["details"]["skipped"][0]["provider_id"] == "echo"


async def test_a_job_for_a_node_not_yet_seen_waits(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=("127.0.0.1:9",))
    async with answering(settings) as edge:
        response = await edge.client.post("/v1/jobs", json=TEXT | {"model": "who-knows"})
        assert (response.status_code, response.json()["data"]["status"]) == (202, "pending")


async def test_a_prompt_longer_than_the_context_fails_with_the_node_s_error(box: Edge) -> None:
    job = await box.ended((await created(box, model=None, input={"prompt": "word " * 300}))["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "input_validation_failed"  # type: ignore[index]  # decoded JSON
    assert "300 tokens" in job["error"]["message"]  # type: ignore[index]


async def test_more_than_may_wait_is_429_with_retry_after(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=("127.0.0.1:9",), waiting_limit=2)
    async with answering(settings) as edge:
        statuses = [(await edge.client.post("/v1/jobs", json=TEXT)).status_code for _ in range(2)]
        refused = await edge.client.post("/v1/jobs", json=TEXT)
        assert statuses == [202, 202]
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1


# ---- idempotency ----


async def test_a_repeated_key_gives_the_first_job_and_200(edge: Edge) -> None:
    first = await edge.client.post("/v1/jobs", json=ECHO | {"idempotency_key": "k"})
    again = await edge.client.post("/v1/jobs", json=ECHO, headers={"idempotency-key": "k"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["data"]["id"] == again.json()["data"]["id"]
    assert first.headers["location"] == again.headers["location"]


async def test_a_key_with_another_payload_is_422(edge: Edge) -> None:
    await created(edge, idempotency_key="k")
    response = await edge.client.post("/v1/jobs", json=ECHO | {"idempotency_key": "k", "input": {"prompt": "other"}})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "idempotency_key_reused")


async def test_two_different_keys_are_refused(edge: Edge) -> None:
    body = ECHO | {"idempotency_key": "k"}
    response = await edge.client.post("/v1/jobs", json=body, headers={"idempotency-key": "other"})
    assert "'k', the header Idempotency-Key is 'other'" in errors_of(response)["idempotency_key"]


async def test_a_key_belongs_to_its_organization(edge: Edge) -> None:
    first = await created(edge, idempotency_key="k")
    other = await created(edge, idempotency_key="k", organization_id="acme")
    assert first["id"] != other["id"]


# ---- one job ----


@pytest.mark.parametrize("path", ["", "/usage", "/events"])
@pytest.mark.parametrize("id_", [NOBODY, "nonsense", "job_%F0%9F%92%A9"])
async def test_a_job_of_nobody_is_404(shared: Edge, path: str, id_: str) -> None:
    response = await shared.client.get(f"/v1/jobs/{id_}{path}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_cancelling_a_job_of_nobody_is_404(edge: Edge) -> None:
    response = await edge.client.post(f"/v1/jobs/{NOBODY}/cancel")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == f"there is no job '{NOBODY}': GET /v1/jobs lists yours"


async def test_a_running_job_is_cancelled_and_its_seat_is_free(box: Edge, gate: threading.Event) -> None:
    gate.clear()
    job = await created(box, model=None, **TEXT)
    async with box.client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
        async for line in events.aiter_lines():
            if line == "event: job.started":
                break
    response = await box.client.post(f"/v1/jobs/{job['id']}/cancel", headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["data"]["status"]) == (200, "cancelled")
    gate.set()
    other = await box.ended((await created(box, model=None, **TEXT))["id"])
    assert other["status"] == "completed"


async def test_cancelling_a_finished_job_is_409_and_not_worth_a_retry(edge: Edge) -> None:
    job = await edge.ended((await created(edge))["id"])
    response = await edge.client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "job_terminal")
    assert response.headers["x-should-retry"] == "false"


# ---- lists ----


async def test_following_the_cursors_shows_each_job_once_while_new_ones_arrive(edge: Edge) -> None:
    made = [(await created(edge))["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(10):
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await edge.client.get("/v1/jobs", params=query)).json()["data"]
        assert set(page) == {"jobs", "has_more", "cursor"}
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["cursor"]
        await created(edge)
        if not page["has_more"]:
            break
    assert seen == made[::-1]
    assert cursor is None


async def test_filters_narrow_the_list(edge: Edge) -> None:
    text = await edge.ended((await created(edge))["id"])
    embedding = await edge.ended((await created(edge, modality="embedding", input={"text": "a"}, tier="basic"))["id"])
    other = await created(edge, organization_id="globex")

    async def listed(**query: str) -> list[str]:
        return [job["id"] for job in (await edge.client.get("/v1/jobs", params=query)).json()["data"]["jobs"]]

    assert await listed(modality="embedding") == [embedding["id"]]
    assert await listed(tier="basic") == [embedding["id"]]
    assert await listed(status="completed") == [embedding["id"], text["id"]]
    assert await listed(status="failed") == []
    assert await listed(model="echo", since=str(text["created_at"])) == [embedding["id"], text["id"]]
    assert await listed(since="2999-01-01T00:00:00Z") == []
    assert await listed(organization_id="globex") == [other["id"]]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "cursor=x", "status=done", "modality=x", "tier=x", "since=soon"]
)
async def test_a_wrong_query_is_400_and_named(shared: Edge, query: str) -> None:
    assert query.partition("=")[0] in errors_of(await shared.client.get(f"/v1/jobs?{query}"))
