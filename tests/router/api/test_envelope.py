"""Every answer has the one shape, the framework's own errors included."""

import json
import logging
import time
from pathlib import Path

import httpx
import pytest
from edge import Edge, answering
from starlette.types import Receive, Scope, Send

from protos.errors import FabricError, JobTerminal, Overloaded, Unauthorized
from router.api.envelope import failure
from router.api.gate import Gate
from router.api.metrics import Metrics
from router.keyring import Keyring
from router.limits import RateLimits
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ECHO = {"modality": "text", "model": "echo", "input": {"prompt": "hello there"}}
KEY = "fab_0123456789abcdef"


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The envelope's error, checked."""
    body = response.json()
    assert response.status_code == status, body
    assert set(body) == {"error", "meta", "data"}
    assert body["data"] is None
    assert body["meta"] == {"request_id": response.headers["x-request-id"], "status": status}
    assert body["error"]["code"] == code
    assert set(body["error"]) <= {"code", "message", "details"}
    assert body["error"]["message"]
    error: dict[str, object] = body["error"]
    return error


async def test_success_carries_data_and_meta(edge: Edge) -> None:
    response = await edge.client.get("/v1/providers")
    assert set(response.json()) == {"data", "meta"}
    assert response.json()["meta"] == {"request_id": response.headers["x-request-id"], "status": 200}


async def test_the_caller_s_request_id_is_kept(edge: Edge) -> None:
    response = await edge.client.get("/v1/providers", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == response.json()["meta"]["request_id"] == "mine-1"


async def test_an_unusable_request_id_is_replaced(edge: Edge) -> None:
    response = await edge.client.get("/v1/providers", headers={"x-request-id": "x" * 500})
    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1/jobs/", "/v2/jobs"])
async def test_an_unknown_path_is_404(edge: Edge, path: str) -> None:
    assert "/docs" in str(assert_error(await edge.client.get(path), 404, "not_found")["message"])


async def test_a_method_that_a_path_does_not_take_is_405(edge: Edge) -> None:
    response = await edge.client.put("/v1/jobs/x/cancel")
    assert_error(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("text", ["{", "", "nope", '{"modality": "text",}', '{"a": "\\ud83d'])
async def test_malformed_json_is_400(edge: Edge, text: str) -> None:
    response = await edge.client.post("/v1/jobs", content=text, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert_error(response, 400, "invalid_request" if text else "input_validation_failed")


async def test_bytes_that_are_no_text_are_400(edge: Edge) -> None:
    response = await edge.client.post(
        "/v1/jobs", content=b'{"a": "\xff"}', headers={"content-type": "application/json"}
    )
    assert "UTF-8" in str(assert_error(response, 400, "invalid_request")["message"])


async def test_json_nested_without_end_is_400(edge: Edge) -> None:
    response = await edge.client.post("/v1/jobs", content="[" * 100_000, headers={"content-type": "application/json"})
    assert_error(response, 400, "invalid_request")


@pytest.mark.parametrize("text", ["[]", '"text"', "1", "null"])
async def test_json_that_is_no_object_is_400(edge: Edge, text: str) -> None:
    response = await edge.client.post("/v1/jobs", content=text, headers={"content-type": "application/json"})
    assert_error(response, 400, "input_validation_failed")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_a_body_that_is_not_said_to_be_json_is_415(edge: Edge, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await edge.client.post("/v1/jobs", content=json.dumps(ECHO), headers=headers)
    assert "application/json" in str(assert_error(response, 415, "unsupported_media_type")["message"])


async def test_json_with_a_charset_is_read(edge: Edge) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await edge.client.post("/v1/jobs", content=json.dumps(ECHO), headers=headers)).status_code == 202


async def test_a_body_over_the_bound_is_413(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), body_bytes=1000)
    async with answering(settings) as edge:
        body = {**ECHO, "input": {"prompt": "x" * 1000}}
        error = assert_error(await edge.client.post("/v1/jobs", json=body), 413, "payload_too_large")
        assert error["message"] == "the body is over 1000 bytes: send less, or raise FABRIC_BODY_BYTES"


async def test_a_body_without_a_length_is_cut_at_the_bound(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), body_bytes=1000)

    async def chunks():  # type: ignore[no-untyped-def]  # noqa: ANN202  # an async generator of bytes
        for _ in range(20):
            yield b" " * 100

    async with answering(settings) as edge:
        response = await edge.client.post("/v1/jobs", content=chunks(), headers={"content-type": "application/json"})
        assert_error(response, 413, "payload_too_large")
        assert (await edge.client.post("/v1/jobs", json=ECHO)).status_code == 202


async def test_a_defect_is_500_and_its_stack_goes_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def defect(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    settings = RouterSettings()
    transport = httpx.ASGITransport(
        Gate(
            defect,
            settings=settings,
            metrics=Metrics(),
            keyring=Keyring(settings, time.time),
            limits=RateLimits(time.monotonic),
            dialects={},
        )
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        with caplog.at_level(logging.ERROR):
            response = await client.get("/v1/jobs", headers={"x-request-id": "broken-1"})
    assert_error(response, 500, "internal")
    assert "broken-1" in response.text
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert "broken-1" in caplog.text


async def test_without_keys_a_foreign_host_name_is_refused(edge: Edge) -> None:
    response = await edge.client.get("/v1/jobs", headers={"host": "pictures.example:3001"})
    assert_error(response, 403, "forbidden")
    for host in ("localhost:3001", "127.0.0.1", "[::1]:3001"):
        assert (await edge.client.get("/v1/jobs", headers={"host": host})).status_code == 200


async def test_keys_are_asked_for_on_every_v1_route_but_the_estimate(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), api_keys=(KEY, KEY[::-1]))
    async with answering(settings) as edge:
        response = await edge.client.get("/v1/jobs")
        assert_error(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
        assert_error(await edge.client.get("/v1/jobs", headers={"authorization": f"Basic {KEY}"}), 401, "unauthorized")
        assert_error(await edge.client.get("/v1/jobs", headers={"authorization": "Bearer no"}), 401, "unauthorized")
        assert_error(await edge.client.post("/v1/jobs", json=ECHO), 401, "unauthorized")
        assert_error(await edge.client.get("/v1/nope"), 401, "unauthorized")
        for key in settings.api_keys:
            found = await edge.client.get("/v1/jobs", headers={"authorization": f"Bearer {key}"})
            assert found.status_code == 200
        assert (await edge.client.post("/v1/providers/estimate", json=ECHO)).status_code == 200
        assert (await edge.client.get("/healthz")).status_code == 200


async def test_an_error_tells_when_to_come_back() -> None:
    assert _headers(Overloaded("full", retry_after_s=1.2))["retry-after"] == "2"
    assert _headers(Overloaded("full"))["retry-after"] == "1"


async def test_a_finished_job_tells_not_to_retry() -> None:
    assert _headers(JobTerminal("over"))["x-should-retry"] == "false"
    assert "x-should-retry" not in _headers(Unauthorized("no"))


def _headers(error: FabricError) -> httpx.Headers:
    return httpx.Headers(failure(error, "id").headers.items())
