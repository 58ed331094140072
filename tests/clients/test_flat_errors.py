"""What the flat client of fabric-platform 0.8.1 raises for each refusal of a running router.

This release reads no error of its deletes, of set_secret and of its streams: there the transport's own is raised.
"""

import pytest
from clients.flat import Flat
from clients.world import World
from edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    "code",
    [
        'fabric.get_job("job_01ARZ3NDEKTSV4RRFFQ69G5FAV")',
        'fabric.get_job_usage("job_gone")',
        'fabric.get_webhook("gone")',
        'fabric.update_webhook("gone", active=False)',
        'fabric.list_webhook_deliveries("gone")',
        'fabric.get_api_key("gone")',
        'fabric.rotate_api_key("gone")',
        'fabric.download_asset("gone")',
        'fabric.asset_signed_url("gone")',
        'fabric.get_node("gone")',
        'fabric.execute_provider("text", {"prompt": "hi"}, model="gone")',
        'fabric.cancel_run("run_gone")',
    ],
)
async def test_what_is_not_there_is_not_found(flat: Flat, code: str) -> None:
    raised = await flat.raised(code)
    assert (raised.type, raised.status) == ("fabric_platform.FabricNotFoundError", 404)
    assert raised.code in {"not_found", "model_not_found"}
    assert raised.request_id


@pytest.mark.parametrize(
    "code",
    [
        'fabric.create_job("smell", {"prompt": "hi"})',
        'fabric.create_job("text", {"prompt": "hi"}, params={"temperature": "hot"})',
        "fabric.list_jobs(limit=0)",
        'fabric.list_jobs(cursor="nowhere")',
        'fabric.estimate_cost("text", {})',
        'fabric.create_webhook("acme", "ftp://example.com", ["job.*"])',
        'fabric.create_webhook("acme", "https://example.com", ["job.*"], secret="no secret")',
        'fabric.create_api_key("ci", "acme", scopes=["everything"])',
        'fabric.set_org_budget("acme", -1)',
    ],
)
async def test_what_cannot_be_is_a_validation_error(flat: Flat, code: str) -> None:
    raised = await flat.raised(code)
    assert (raised.type, raised.status) == ("fabric_platform.FabricValidationError", 400)
    assert raised.code in {"invalid_request", "input_validation_failed"}
    assert raised.message


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ('fabric.delete_webhook("gone")', 404),
        ('fabric.delete_api_key("gone")', 404),
        ('fabric.disable_api_key("gone")', 404),
        ('fabric.delete_secret("GONE")', 404),
        ('fabric.set_secret("no name", "sk-...")', 400),
        ('list(fabric.stream_job_events("gone"))', 404),
        ('list(fabric.stream_run_events("gone"))', 404),
    ],
)
async def test_where_this_release_translates_no_error_the_transport_s_own_is_raised(
    flat: Flat, code: str, status: int
) -> None:
    raised = await flat.raised(code)
    assert (raised.type, raised.status) == ("httpx.HTTPStatusError", status)


async def test_what_has_ended_is_a_conflict(flat: Flat, world: World) -> None:
    key = await flat.value('fabric.create_api_key("to be disabled", "acme")')
    code = "fabric.disable_api_key(id)\nfabric.rotate_api_key(id)"
    rotated = await flat.raised(code, id=key["id"])
    assert (rotated.type, rotated.status, rotated.code) == ("fabric_platform.FabricConflictError", 409, "conflict")
    # No method of this release cancels a job: its own transport and its own translation of the answer do.
    code = 'fabric._unwrap(fabric._client.post(f"/v1/jobs/{id}/cancel"))'
    cancelled = await flat.raised(code, id=world.done["id"])
    assert (cancelled.type, cancelled.code) == ("fabric_platform.FabricConflictError", "job_terminal")


# ---- a router that asks for keys ----


@pytest.mark.parametrize("key", [None, "fab_unknown"])
async def test_without_a_known_key_an_auth_error_is_raised(refused: Flat, guarded: Edge, key: str | None) -> None:
    code = "FabricClient(base_url=url, api_key=key).list_jobs()"
    raised = await refused.raised(code, url=guarded.url, key=key)
    assert (raised.type, raised.status, raised.code) == ("fabric_platform.FabricAuthError", 401, "unauthorized")
    stream = await refused.raised("list(fabric.stream_events())")
    assert (stream.type, stream.status) == ("httpx.HTTPStatusError", 401)


async def test_an_estimate_needs_no_key(refused: Flat) -> None:
    assert (await refused.value('fabric.estimate_cost("text", {"prompt": "hi"}, model="echo")'))["cost_micro"] == 0


async def _key(guarded: Edge, **fields: object) -> str:
    made = await guarded.client.post("/v1/api-keys", json={"name": "a key", "organization_id": "acme", **fields})
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["key"])


async def test_a_key_without_the_right_is_forbidden(refused: Flat, guarded: Edge) -> None:
    names = {"url": guarded.url, "key": await _key(guarded, scopes=["usage:read"])}
    job = 'FabricClient(base_url=url, api_key=key, organization_id="acme").create_job("text", {"prompt": "hi"})'
    raised = await refused.raised(job, **names)
    assert (raised.type, raised.status, raised.code) == ("fabric_platform.FabricForbiddenError", 403, "forbidden")
    theirs = 'FabricClient(base_url=url, api_key=key).get_org_usage("another")'
    assert (await refused.raised(theirs, **names)).status in {403, 404}


async def test_over_its_rate_a_key_is_told_when_to_come_back(refused: Flat, guarded: Edge) -> None:
    names = {"url": guarded.url, "key": await _key(guarded, rate_per_s=0.001)}
    code = 'client = FabricClient(base_url=url, api_key=key, organization_id="acme")\nclient.list_jobs()\nclient.list_jobs()'
    raised = await refused.raised(code, **names)
    assert (raised.type, raised.status, raised.code) == ("fabric_platform.FabricRateLimitError", 429, "rate_limited")
    assert raised.retry_after is not None
    assert 990 <= raised.retry_after <= 1000


async def test_over_its_jobs_a_key_is_told_when_to_come_back(refused: Flat, guarded: Edge) -> None:
    names = {"url": guarded.url, "key": await _key(guarded, max_concurrent_jobs=1)}
    code = 'FabricClient(base_url=url, api_key=key, organization_id="acme").create_job("text", {"prompt": "hi"})'
    await refused.value(code, **names)
    raised = await refused.raised(code, **names)
    assert (raised.type, raised.code) == ("fabric_platform.FabricRateLimitError", "quota_exceeded")
    assert raised.retry_after is not None


async def test_a_call_that_nothing_can_serve_is_the_server_s_error(refused: Flat, guarded: Edge) -> None:
    names = {"url": guarded.url, "key": guarded.parts.settings.api_keys[0]}
    code = 'FabricClient(base_url=url, api_key=key).execute_provider("text", {"prompt": "hi"})'
    raised = await refused.raised(code, **names)
    assert (raised.type, raised.status) == ("fabric_platform.FabricServerError", 503)
