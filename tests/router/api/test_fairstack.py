"""The FairStack dialect against a running router: its page's calls, as they are printed there but for the address."""

from typing import Any

import httpx
import pytest
from edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON
BASE = "/fairstack/v1"


async def submitted(edge: Edge, modality: str, **body: object) -> Json:
    response = await edge.client.post(f"{BASE}/generations/{modality}", json=body)
    assert response.status_code == httpx.codes.ACCEPTED, response.text
    assert response.headers["location"] == f"{BASE}/jobs/{response.json()['job_id']}"
    job: Json = response.json()
    return job


async def ended(edge: Edge, job_id: str) -> Json:
    await edge.client.get(f"/v1/jobs/{job_id}/events")
    job: Json = (await edge.client.get(f"{BASE}/jobs/{job_id}")).json()
    return job


async def test_a_submitted_job_is_queued_and_flat(edge: Edge) -> None:
    job = await submitted(edge, "text", model="echo", prompt="hello there")
    assert set(job) == {"job_id", "status", "model", "modality", "created_at"}
    assert (job["status"], job["model"], job["modality"]) == ("queued", "echo", "text")


async def test_a_picture_succeeds_with_its_url_its_size_and_its_cost(edge: Edge) -> None:
    tags = [{"key": "project", "value": "cats"}]
    job = await submitted(edge, "image", model="echo", prompt="a cat", width=32, height=16, tags=tags)
    done = await ended(edge, job["job_id"])
    assert set(done) == {
        "job_id",
        "status",
        "model",
        "modality",
        "created_at",
        "completed_at",
        "result",
        "asset_id",
        "tags",
    }
    assert (done["status"], done["tags"]) == ("succeeded", tags)
    result = done["result"]
    assert [result[name] for name in ("width", "height", "duration_sec")] == [32, 16, None]
    assert [result[name] for name in ("cost", "cost_micro", "currency")] == [0, 0, "USD"]
    picture = await edge.client.get(result["url"])
    assert picture.headers["content-type"] == "image/png"
    assert (await edge.client.get(f"/v1/assets/{done['asset_id']}")).content == picture.content


async def test_text_and_embeddings_are_in_the_result(edge: Edge) -> None:
    text = await ended(edge, (await submitted(edge, "text", model="echo", input="hello"))["job_id"])
    assert (text["result"]["text"], text["result"]["url"], text["asset_id"]) == ("hello", None, None)
    vectors = await ended(edge, (await submitted(edge, "embedding", model="echo", input=["a", "b"]))["job_id"])
    assert len(vectors["result"]["embeddings"]) == 2


async def test_a_failed_job_has_a_sentence(box: Edge) -> None:
    job = await submitted(box, "text", prompt=" ".join(["word"] * 300))  # the fake engine takes 256
    failed = await ended(box, job["job_id"])
    assert failed["status"] == "failed"
    assert failed["error"].startswith("prompt: has 300 tokens")
    assert "completed_at" in failed
    assert "result" not in failed


async def test_without_confirmation_there_is_an_estimate_and_no_job(edge: Edge) -> None:
    body = {"model": "echo", "prompt": "hello", "confirm": False}
    response = await edge.client.post(f"{BASE}/generations/text", json=body)
    assert response.status_code == httpx.codes.OK
    estimate = response.json()
    assert (estimate["model"], estimate["cost_micro"], estimate["currency"]) == ("echo", 0, "USD")
    assert (await edge.client.get(f"{BASE}/jobs")).json()["jobs"] == []


async def test_the_list_filters_and_pages(edge: Edge) -> None:
    done = [(await submitted(edge, "text", model="echo", prompt=f"number {n}"))["job_id"] for n in range(3)]
    for job_id in done:
        await ended(edge, job_id)
    first = (await edge.client.get(f"{BASE}/jobs?status=completed&limit=2")).json()
    assert [job["job_id"] for job in first["jobs"]] == done[:0:-1]
    assert {job["status"] for job in first["jobs"]} == {"succeeded"}
    rest = (await edge.client.get(f"{BASE}/jobs?status=succeeded&cursor={first['cursor']}")).json()
    assert ([job["job_id"] for job in rest["jobs"]], rest["has_more"], rest["cursor"]) == ([done[0]], False, None)
    for other in ("queued", "partial", "failed", "cancelled"):
        assert (await edge.client.get(f"{BASE}/jobs?status={other}")).json()["jobs"] == []
    assert (await edge.client.get(f"{BASE}/jobs?modality=image")).json()["jobs"] == []


async def test_a_job_is_cancelled_once(box: Edge, gate: Any) -> None:
    gate.clear()
    job = await submitted(box, "text", prompt="one two three")
    cancelled = await box.client.post(f"{BASE}/jobs/{job['job_id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    again = await box.client.post(f"{BASE}/jobs/{job['job_id']}/cancel")
    assert again.status_code == httpx.codes.CONFLICT
    assert set(again.json()) == {"error", "code", "request_id"}
    assert again.json()["code"] == "job_terminal"
    gate.set()


async def test_it_is_the_same_job_under_v1(edge: Edge) -> None:
    job = await submitted(edge, "text", model="echo", prompt="hello")
    ours = (await edge.client.get(f"/v1/jobs/{job['job_id']}")).json()["data"]
    assert (ours["input"], ours["model"]) == ({"prompt": "hello"}, "echo")


async def test_an_idempotency_key_gives_the_job_again(edge: Edge) -> None:
    headers, body = {"idempotency-key": "once"}, {"model": "echo", "prompt": "hello"}
    first = await edge.client.post(f"{BASE}/generations/text", json=body, headers=headers)
    second = await edge.client.post(f"{BASE}/generations/text", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["job_id"] == second.json()["job_id"]


@pytest.mark.parametrize(
    ("call", "body", "status", "code"),
    [
        (
            "POST /generations/text",
            {"model": "echo", "prompt": "x", "temprature": 1},
            400,
            "input_validation_failed",
        ),
        ("POST /generations/text", {"model": "gone", "prompt": "x"}, 404, "model_not_found"),
        ("POST /generations/music", {"model": "echo"}, 400, "input_validation_failed"),
        ("GET /jobs?limit=101", None, 400, "input_validation_failed"),
        ("GET /jobs?status=processing", None, 400, "input_validation_failed"),
        ("GET /jobs/job_nobody", None, 404, "not_found"),
    ],
)
async def test_errors_are_flat(edge: Edge, call: str, body: Json | None, status: int, code: str) -> None:
    method, path = call.split()
    response = await edge.client.request(method, BASE + path, json=body)
    told = response.json()
    assert (response.status_code, told["code"]) == (status, code)
    assert isinstance(told["error"], str)
    assert told["request_id"] == response.headers["x-request-id"]


async def test_a_wrong_field_is_named(edge: Edge) -> None:
    response = await edge.client.post(f"{BASE}/generations/text", json={"model": "echo", "prompt": "x", "top_q": 1})
    assert response.json()["errors"] == [
        {"path": "params.top_q", "message": "is not known here: check the spelling, or leave it out"}
    ]
