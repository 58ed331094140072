"""What the official client, fabric-platform 0.17.1, raises for each refusal of a running router."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from clients.told import told
from edge import Edge
from fabric_platform import FabricClient
from fabric_platform.errors import (
    FabricAuthError,
    FabricConflictError,
    FabricForbiddenError,
    FabricNotFoundError,
    FabricRateLimitError,
    FabricServerError,
    FabricValidationError,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"prompt": "one two three"}


@contextmanager
def raises(kind: type[Exception], status: int, *codes: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    error: Any = caught.value  # Any: the client has no types
    assert (error.status_code, error.code in codes) == (status, True), error.code
    assert error.request_id
    assert str(error)


NOT_THERE: dict[str, Callable[[FabricClient], object]] = {
    "webhooks.get": lambda fabric: fabric.webhooks.get("gone"),
    "webhooks.update": lambda fabric: fabric.webhooks.update("gone", active=False),
    "webhooks.delete": lambda fabric: fabric.webhooks.delete("gone"),
    "webhooks.deliveries": lambda fabric: fabric.webhooks.deliveries("gone"),
    "api_keys.get": lambda fabric: fabric.api_keys.get("gone"),
    "api_keys.delete": lambda fabric: fabric.api_keys.delete("gone"),
    "api_keys.disable": lambda fabric: fabric.api_keys.disable("gone"),
    "api_keys.rotate": lambda fabric: fabric.api_keys.rotate("gone"),
    "assets.download": lambda fabric: fabric.assets.download("gone"),
    "assets.signed_url": lambda fabric: fabric.assets.signed_url("gone"),
    "providers.execute": lambda fabric: fabric.providers.execute("text", TEXT, model="gone"),
    "providers.estimate": lambda fabric: fabric.providers.estimate("text", TEXT, model="gone"),
}


@pytest.mark.parametrize("call", NOT_THERE.values(), ids=NOT_THERE)
async def test_what_is_not_there_is_not_found(fabric: FabricClient, call: Callable[[FabricClient], object]) -> None:
    with raises(FabricNotFoundError, 404, "not_found", "model_not_found"):
        await told(lambda: call(fabric))


INVALID: dict[str, Callable[[FabricClient], object]] = {
    "modality": lambda fabric: fabric.providers.execute("smell", TEXT),
    "input": lambda fabric: fabric.providers.estimate("text", {}),
    "params": lambda fabric: fabric.providers.execute("text", TEXT, params={"temperature": "hot"}),
    "url": lambda fabric: fabric.webhooks.create(url="https://user:password@example.com", events=["job.*"]),
    "events": lambda fabric: fabric.webhooks.create(url="https://example.com", events=[]),
    "scopes": lambda fabric: fabric.api_keys.create("ci", scopes=["everything"]),
    "limit": lambda fabric: fabric.assets.list(limit=0),
    "ttl": lambda fabric: fabric.assets.signed_url("any", ttl_seconds=-1),
}


@pytest.mark.parametrize("call", INVALID.values(), ids=INVALID)
async def test_what_cannot_be_is_a_validation_error(
    fabric: FabricClient, call: Callable[[FabricClient], object]
) -> None:
    with raises(FabricValidationError, 400, "invalid_request", "input_validation_failed"):
        await told(lambda: call(fabric))


async def test_streams_of_what_is_not_there_raise_the_transport_s_own_error(fabric: FabricClient) -> None:
    for stream in (fabric.events.stream_job, fabric.events.stream_run):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await told(lambda stream=stream: list(stream("gone")))  # type: ignore[misc]  # the client has no types
        assert caught.value.response.status_code == 404


async def test_a_disabled_key_is_not_rotated(fabric: FabricClient, org: str) -> None:
    made = await told(lambda: fabric.api_keys.create("to be disabled", org))
    await told(lambda: fabric.api_keys.disable(made["id"]))
    with raises(FabricConflictError, 409, "conflict"):
        await told(lambda: fabric.api_keys.rotate(made["id"]))


# ---- errors of a router that asks for keys ----


@pytest_asyncio.fixture(loop_scope="module")
async def root(guarded: Edge) -> AsyncIterator[FabricClient]:
    with FabricClient(base_url=guarded.url, api_key=guarded.parts.settings.api_keys[0]) as client:
        yield client


@pytest.mark.parametrize("key", [None, "fab_unknown"])
async def test_without_a_known_key_an_auth_error_is_raised(guarded: Edge, key: str | None) -> None:
    with FabricClient(base_url=guarded.url, api_key=key) as nobody:
        with raises(FabricAuthError, 401, "unauthorized"):
            await told(nobody.providers.list)
        with pytest.raises(httpx.HTTPStatusError):
            await told(lambda: list(nobody.events.stream()))


async def test_a_key_without_the_right_is_forbidden(guarded: Edge, root: FabricClient, org: str) -> None:
    made = await told(lambda: root.api_keys.create("reader", org, scopes=["usage:read"]))
    with FabricClient(base_url=guarded.url, api_key=made["key"], organization_id=org) as reader:
        with raises(FabricForbiddenError, 403, "forbidden"):
            await told(lambda: reader.providers.execute("text", TEXT, model="echo"))
        with raises(FabricForbiddenError, 403, "forbidden"):
            await told(lambda: reader.api_keys.create("more"))


async def test_over_its_rate_a_key_is_told_when_to_come_back(guarded: Edge, org: str) -> None:
    body = {"name": "slow", "organization_id": org, "rate_per_s": 0.001}
    made = (await guarded.client.post("/v1/api-keys", json=body)).json()["data"]
    with FabricClient(base_url=guarded.url, api_key=made["key"], organization_id=org) as slow:
        await told(slow.providers.list)
        with pytest.raises(FabricRateLimitError) as caught:
            await told(slow.providers.list)
    assert (caught.value.status_code, caught.value.code) == (429, "rate_limited")
    assert caught.value.retry_after is not None
    assert 990 <= caught.value.retry_after <= 1000


async def test_a_call_that_nothing_can_serve_is_the_server_s_error(root: FabricClient) -> None:
    with raises(FabricServerError, 503, "no_provider", "node_unavailable"):
        await told(lambda: root.providers.execute("text", TEXT))
