"""The calls answered before the framework: as it would answer them, and nothing that it would refuse gets through."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from edge import Edge
from fastapi.routing import APIRoute

from router.app import QUICK, ROUTERS

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = b'{"modality": "text", "model": "echo", "input": {"prompt": "hello"}}'
JSON = {"content-type": "application/json"}


def routes() -> dict[tuple[str, str], APIRoute]:
    found = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return {(method, route.path): route for route in found for method in route.methods or ()}


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body[:5]
    yield body[5:]


@pytest.mark.parametrize("path", QUICK)
async def test_each_is_a_route_of_the_framework_too(path: str) -> None:
    assert routes()["POST", path].endpoint is QUICK[path]


async def test_a_body_that_does_not_state_its_length_is_taken_all_the_same(edge: Edge) -> None:
    answer = await edge.client.post("/v1/providers/execute", content=in_pieces(HELLO), headers=JSON)
    assert (answer.status_code, answer.json()["data"]["output"]["text"]) == (200, "hello")


WRONG: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no JSON": (b"{", {}, 400, "invalid_request"),
    "an unknown field": (b'{"modality": "text", "inputs": {}}', {}, 400, "input_validation_failed"),
    "another media type": (HELLO, {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    "another's organization": (HELLO, {"x-organization-id": "n o b o d y"}, 400, "input_validation_failed"),
    "too long a key": (HELLO, {"idempotency-key": "k" * 201}, 400, "input_validation_failed"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_said_as_the_framework_says_it(edge: Edge, wrong: str) -> None:
    body, headers, status, code = WRONG[wrong]
    quick = await edge.client.post("/v1/jobs", content=body, headers=JSON | headers)
    careful = await edge.client.post("/v1/jobs", content=in_pieces(body), headers=JSON | headers)
    assert (quick.status_code, quick.json()["error"]["code"]) == (status, code)
    assert without_id(quick.json()) == without_id(careful.json())


async def test_it_is_counted_under_its_path(edge: Edge) -> None:
    await edge.client.post("/v1/providers/execute", content=HELLO, headers=JSON)
    told = (await edge.client.get("/metrics")).text
    assert 'method="POST",route="/v1/providers/execute",status="200"' in told


def without_id(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "meta": {**answer["meta"], "request_id": ""}}
