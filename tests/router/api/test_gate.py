"""What the gate adds to an answer: how much a key may still send, which methods a path takes, errors in its dialect."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering
from fabric_platform import FabricClient
from fabric_platform.errors import FabricForbiddenError, FabricRateLimitError
from fabric_platform.models import ApiKey, CreateApiKeyResponse

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_KEY = "fab_0123456789abcdef"
ECHO = {"modality": "text", "model": "echo", "input": {"prompt": "hello there"}}
WAITING = {"modality": "text", "input": {"prompt": "for a node that is not there"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    settings = RouterSettings(
        port=0, data_dir=tmp_path_factory.mktemp("gate"), nodes=("127.0.0.1:9",), api_keys=(ROOT_KEY,)
    )
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        yield edge


async def made(edge: Edge, **fields: Any) -> str:
    response = await edge.client.post("/v1/api-keys", json={"name": "a key", "organization_id": "acme", **fields})
    assert response.status_code == 201, response.text
    return str(response.json()["data"]["key"])


def as_holder(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# ---- limits ----


async def test_a_key_over_its_rate_is_told_when_to_come_back(guarded: Edge) -> None:
    headers = as_holder(await made(guarded, rate_per_s=0.001))
    first = await guarded.client.get("/v1/jobs", headers=headers)
    assert (first.status_code, first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == (
        200,
        "1",
        "0",
    )
    second = await guarded.client.get("/v1/jobs", headers=headers)
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limited")
    assert 990 <= int(second.headers["retry-after"]) <= 1000
    assert 990 <= int(second.headers["x-ratelimit-reset"]) <= 1000


async def test_a_key_without_a_rate_of_its_own_has_the_settings(guarded: Edge) -> None:
    response = await guarded.client.get("/v1/jobs", headers=as_holder(await made(guarded)))
    assert response.headers["x-ratelimit-limit"] == str(int(RouterSettings().key_rate_per_s))


async def test_the_administrator_s_key_has_no_limits(guarded: Edge) -> None:
    assert "x-ratelimit-limit" not in (await guarded.client.get("/v1/jobs")).headers


async def test_a_key_with_as_many_jobs_as_it_may_have_is_refused_another(guarded: Edge) -> None:
    headers = as_holder(await made(guarded, max_concurrent_jobs=2))
    jobs = [await guarded.client.post("/v1/jobs", json=WAITING, headers=headers) for _ in range(3)]
    assert [job.status_code for job in jobs] == [202, 202, 429]
    assert jobs[2].json()["error"]["code"] == "quota_exceeded"
    assert jobs[2].headers["retry-after"]
    await guarded.client.post(f"/v1/jobs/{jobs[0].json()['data']['id']}/cancel", headers=headers)
    assert (await guarded.client.post("/v1/jobs", json=WAITING, headers=headers)).status_code == 202


# ---- paths and methods ----


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs/x/cancel", "POST"),
        ("DELETE", "/v1/jobs", "GET, POST"),
        ("POST", "/v1/api-keys/x", "DELETE, GET"),
        ("PUT", "/v1/webhooks/x", "DELETE, GET, PATCH"),
        ("OPTIONS", "/", "GET"),
    ],
)
async def test_all_methods_of_a_path_are_named(guarded: Edge, method: str, path: str, allowed: str) -> None:
    response = await guarded.client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


async def test_the_root_names_the_docs(guarded: Edge) -> None:
    async with httpx.AsyncClient(base_url=guarded.url, timeout=BOUND_S) as nobody:
        response = await nobody.get("/")
        assert (response.status_code, response.json()["data"]["docs"]) == (200, "/docs")
        assert (await nobody.get("/docs")).status_code == 200


async def test_what_the_gate_refuses_is_told_in_the_dialect_of_the_path(guarded: Edge) -> None:
    async with httpx.AsyncClient(base_url=guarded.url, timeout=BOUND_S) as nobody:
        enveloped = (await nobody.get("/v1/jobs")).json()
        assert set(enveloped) == {"error", "meta", "data"}
        openai = (await nobody.post("/v1/chat/completions", json={})).json()
        assert set(openai) == {"error"}
        assert openai["error"]["code"] == "unauthorized"
        flat = (await nobody.get("/fairstack/v1/jobs")).json()
        assert (flat["code"], isinstance(flat["error"], str)) == ("unauthorized", True)


async def test_a_body_over_the_bound_of_files_is_told_what_raises_it(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), body_bytes=100, asset_bytes=1000)
    async with answering(settings) as edge:
        assert (await edge.client.post("/v1/assets?filename=a.txt", content=b"x" * 500)).is_success
        response = await edge.client.post("/v1/assets?filename=a.txt", content=b"x" * 2000)
        assert response.status_code == 413
        assert "FABRIC_ASSET_BYTES" in response.json()["error"]["message"]


# ---- the official client ----


async def test_the_official_client_manages_keys_and_raises_its_own_errors(guarded: Edge) -> None:
    def act() -> None:
        with FabricClient(base_url=guarded.url, api_key=ROOT_KEY, organization_id="official") as client:
            made = client.api_keys.create("ci-pipeline", "official", scopes=["workflow.run"])
            assert CreateApiKeyResponse(**made).key.startswith("fab_")
            assert ApiKey(**client.api_keys.get(made["id"])).scopes == ["workflow.run"]
            assert made["id"] in [key["id"] for key in client.api_keys.list()]
            again = client.api_keys.rotate(made["id"])
            assert again["key"] != made["key"]
            worker = FabricClient(base_url=guarded.url, api_key=again["key"], organization_id="official")
            with worker, pytest.raises(FabricForbiddenError):
                worker.api_keys.list()
            client.api_keys.disable(made["id"])
            assert client.api_keys.get(made["id"])["disabled"] is True
            client.api_keys.delete(made["id"])
            slow = httpx.post(
                f"{guarded.url}/v1/api-keys",
                json={"name": "slow", "organization_id": "official", "rate_per_s": 0.001},
                headers=as_holder(ROOT_KEY),
            ).json()["data"]["key"]
            with FabricClient(base_url=guarded.url, api_key=slow, organization_id="official") as limited:
                limited.admin.health_check()
                with pytest.raises(FabricRateLimitError) as refused:
                    limited.admin.health_check()
                assert refused.value.retry_after is not None
                assert refused.value.retry_after > 900

    await asyncio.to_thread(act)


# ---- the audit log ----


async def entries(edge: Edge, organization_id: str, **params: Any) -> list[dict[str, Any]]:
    response = await edge.client.get(f"/v1/organizations/{organization_id}/audit-logs", params=params)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


async def test_who_did_what_is_in_the_log_when_the_answer_is_there(guarded: Edge) -> None:
    key = (
        await guarded.client.post(
            "/v1/api-keys", json={"name": "x", "organization_id": "seen"}, headers={"x-request-id": "req-seen"}
        )
    ).json()["data"]
    (entry,) = await entries(guarded, "seen")
    assert entry | {"id": "", "created_at": ""} == {
        "id": "",
        "organization_id": "seen",
        "actor": "settings:0",
        "action": "key.create",
        "resource_type": "key",
        "resource_id": key["id"],
        "outcome": "success",
        "status": 201,
        "request_id": "req-seen",
        "detail": None,
        "created_at": "",
    }
    assert key["key"] not in str(entry)


async def test_what_was_denied_or_failed_is_in_the_log_too(guarded: Edge) -> None:
    holder = as_holder(
        (
            await guarded.client.post(
                "/v1/api-keys", json={"name": "x", "organization_id": "denied", "scopes": ["jobs:*"]}
            )
        ).json()["data"]["key"]
    )
    await guarded.client.delete("/v1/api-keys/key_x", headers=holder)
    await guarded.client.post("/v1/jobs/job_x/cancel", headers=holder)
    await guarded.client.get("/v1/jobs", headers=holder)
    logged = [
        (entry["action"], entry["resource_id"], entry["outcome"], entry["status"])
        for entry in await entries(guarded, "denied")
    ]
    assert logged[:2] == [("job.cancel", "job_x", "failure", 404), ("key.delete", "key_x", "denied", 403)]
    assert len(logged) == 3
    assert [entry["actor"][:4] for entry in await entries(guarded, "denied")][:2] == ["key_", "key_"]


async def test_the_log_is_read_page_by_page(guarded: Edge) -> None:
    for _ in range(5):
        await guarded.client.post("/v1/api-keys", json={"name": "x", "organization_id": "paging"})
    seen, cursor = [], None
    for _ in range(3):
        page = await entries(guarded, "paging", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [entry["id"] for entry in page]
        cursor = seen[-1]
    assert len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


async def test_every_kind_of_change_leaves_its_line(guarded: Edge) -> None:
    of = {"params": {"organization_id": "kinds"}}
    path = "/v1/organizations/kinds"
    hook = {"url": "https://example.com/hooks", "events": ["job.*"]}
    webhook = (await guarded.client.post(f"{path}/webhooks", json=hook)).json()["data"]["id"]
    await guarded.client.delete(f"/v1/webhooks/{webhook}", **of)
    await guarded.client.post(f"{path}/secrets", json={"name": "A_KEY", "value": "sk-very-secret"})
    await guarded.client.delete(f"{path}/secrets/A_KEY")
    await guarded.client.put(f"{path}/budget", json={"monthly_limit_usd": 5})
    asset = (await guarded.client.post("/v1/assets?filename=a.txt", content=b"x", **of)).json()["data"]["id"]
    await guarded.client.delete(f"/v1/assets/{asset}", **of)
    logged = {(entry["action"], entry["resource_id"], entry["outcome"]) for entry in await entries(guarded, "kinds")}
    assert logged >= {
        ("webhook.create", webhook, "success"),
        ("secret.set", "A_KEY", "success"),
        ("secret.delete", "A_KEY", "success"),
        ("budget.set", None, "success"),
    }
    assert {("webhook.delete", webhook, "success"), ("asset.delete", asset, "success")} <= logged
    assert "sk-very-secret" not in str(await entries(guarded, "kinds"))


async def test_what_an_administrator_did_to_a_thing_lies_with_the_thing_s_organization(guarded: Edge) -> None:
    client, of = guarded.client, {"params": {"organization_id": "owner"}}
    hook = {"url": "https://example.com/hooks", "events": ["job.*"]}
    webhook = (await client.post("/v1/organizations/owner/webhooks", json=hook)).json()["data"]["id"]
    asset = (await client.post("/v1/assets?filename=a.txt", content=b"x", **of)).json()["data"]["id"]
    asked = {"prompt": "for a node that is not there"}
    generation = (await client.post("/fairstack/v1/generations/text", json=asked, **of)).json()["job_id"]
    await client.post(f"/v1/webhooks/{webhook}/rotate-secret")
    await client.delete(f"/v1/webhooks/{webhook}")
    await client.delete(f"/v1/assets/{asset}")
    await client.post(f"/fairstack/v1/jobs/{generation}/cancel")
    logged = [(entry["action"], entry["resource_id"]) for entry in await entries(guarded, "owner")]
    assert logged[:4] == [
        ("job.cancel", generation),
        ("asset.delete", asset),
        ("webhook.delete", webhook),
        ("webhook.rotate_secret", webhook),
    ]
