"""One organization never sees or touches what is another's: every line of the access table is tried."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering

from router.api.access import TABLE, Rule
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_KEY = "fab_0123456789abcdef"
OWNER, STRANGER = "org-owner", "org-stranger"
ECHO = {"modality": "text", "model": "echo", "input": {"prompt": "of a stranger"}}
HOOK = {"url": "https://example.com/hooks", "events": ["job.*"]}
WAITING = {"modality": "text", "input": {"prompt": "words of the owner"}}
BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/jobs": ECHO,
    "POST /v1/providers/execute": ECHO,
    "POST /v1/providers/execute/stream": ECHO,
    "POST /v1/api-keys": {"name": "a key", "scopes": ["jobs:read"]},
    "POST /v1/webhooks": HOOK,
    "POST /v1/organizations/{org}/webhooks": HOOK,
    "PATCH /v1/webhooks/{webhook_id}": {"active": False},
    "POST /v1/organizations/{org}/secrets": {"name": "OPENAI_API_KEY", "value": "sk-of-a-stranger"},
    "PUT /v1/organizations/{org}/budget": {"monthly_limit_usd": 1},
    "POST /v1/chat/completions": {"model": "echo", "messages": [{"role": "user", "content": "x"}]},
    "POST /v1/completions": {"model": "echo", "prompt": "x"},
    "POST /v1/embeddings": {"model": "echo", "input": "x"},
    "POST /v1/images/generations": {"model": "echo", "prompt": "x", "size": "64x64"},
    "POST /fairstack/v1/generations/{modality}": {"model": "echo", "prompt": "x"},
}
NAMES_ITS_OWNER = [rule for rule in TABLE if rule.path in {"/v1/jobs", "/v1/api-keys", "/v1/webhooks"}]
OF_NOBODY = {"node_id": "node", "modality": "text"}


@dataclass(frozen=True)
class House:
    """A router with two organizations, of which one has one of everything."""

    edge: Edge
    owner: httpx.AsyncClient
    stranger: httpx.AsyncClient
    ids: dict[str, str]  # by the name of a path's parameter

    def path(self, rule: Rule) -> str:
        return rule.path.replace("**", "echo").format(**self.ids, **OF_NOBODY)

    def is_told_of(self, text: str) -> list[str]:
        """What of the owner's stands in it."""
        return [mark for mark in (*self.ids.values(), "words of the owner", "file of the owner") if mark in text]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    settings = RouterSettings(
        port=0, data_dir=tmp_path_factory.mktemp("house"), nodes=("127.0.0.1:9",), api_keys=(ROOT_KEY,)
    )
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        owner, stranger = await client_of(edge, OWNER), await client_of(edge, STRANGER)
        async with owner, stranger:
            yield House(edge, owner, stranger, {"org": OWNER, **await one_of_everything(owner)})


async def client_of(edge: Edge, organization_id: str) -> httpx.AsyncClient:
    """With a key that may do all in its organization."""
    body = {"name": "all", "organization_id": organization_id, "scopes": ["admin"]}
    key = (await edge.client.post("/v1/api-keys", json=body)).json()["data"]
    headers = {"authorization": f"Bearer {key['key']}"}
    return httpx.AsyncClient(base_url=edge.url, timeout=BOUND_S, headers=headers)


async def one_of_everything(owner: httpx.AsyncClient) -> dict[str, str]:
    async def made(path: str, **body: Any) -> str:
        response = await owner.post(path, **body)
        assert response.is_success, response.text
        data = response.json()["data"]
        return str(data.get("id") or data["name"])

    ids = {
        "webhook_id": await made("/v1/webhooks", json=HOOK),
        "job_id": await made("/v1/jobs", json=WAITING),  # its node is not there: it waits
        "key_id": await made("/v1/api-keys", json={"name": "of the owner"}),
        "asset_id": await made("/v1/assets?filename=a.txt&content_type=text/plain", content=b"file of the owner"),
        "name": await made(f"/v1/organizations/{OWNER}/secrets", json={"name": "OWNERS_KEY", "value": "sk-owner"}),
    }
    deliveries = (await owner.get(f"/v1/webhooks/{ids['webhook_id']}/deliveries")).json()["data"]
    ids["delivery_id"] = deliveries[0]["id"] if deliveries else "none-yet"
    return ids | {"run_id": "run_" + ids["job_id"].removeprefix("job_")}


def is_owned(rule: Rule) -> bool:
    return any(f"{{{name}}}" in rule.path for name in ("org", "job_id", "run_id", "key_id", "webhook_id", "asset_id"))


def name_of(rule: Rule) -> str:
    return f"{rule.method} {rule.path}"


WAYS = {"own": {}, "query": {"params": {"organization_id": OWNER}}, "header": {"headers": {"x-organization-id": OWNER}}}


def tries() -> Iterator[Any]:
    for rule in TABLE:
        for way, named in WAYS.items():
            yield pytest.param(rule, named, id=f"{name_of(rule)} {way}")


async def call(client: httpx.AsyncClient, rule: Rule, path: str, **named: Any) -> tuple[int, str]:
    """The status, and the answer's text; of a stream without end, what comes first."""
    body = BODIES.get(name_of(rule))
    content = {"content": b"bytes"} if rule.path == "/v1/assets" and rule.method == "POST" else {"json": body or {}}
    sent = {} if rule.method in {"GET", "HEAD", "DELETE"} else content
    async with client.stream(rule.method, path, **sent, **named) as response:
        if path == "/v1/events/stream" and response.is_success:
            return response.status_code, (await anext(response.aiter_bytes())).decode()
        return response.status_code, (await response.aread()).decode(errors="replace")


@pytest.mark.parametrize(("rule", "named"), list(tries()))
async def test_a_stranger_gets_nothing_of_the_owner(house: House, rule: Rule, named: dict[str, Any]) -> None:
    status, text = await call(house.stranger, rule, house.path(rule), **named)
    assert status != 500, text
    if is_owned(rule):
        assert status in {403, 404}, f"{status}: {text}"
    elif rule.path == "/v1/audit-logs" and status < 400:  # has the ids that the stranger has tried itself
        assert {entry["organization_id"] for entry in json.loads(text)["data"]} <= {STRANGER}
    elif status < 400:
        assert house.is_told_of(text) == []


READS = [rule for rule in TABLE if is_owned(rule) and rule.method == "GET" and not rule.path.endswith("/events")]


@pytest.mark.parametrize("rule", READS, ids=name_of)
async def test_what_a_stranger_is_refused_is_there_for_its_owner(house: House, rule: Rule) -> None:
    status, text = await call(house.owner, rule, house.path(rule))
    assert status == 200, text


@pytest.mark.parametrize("rule", [rule for rule in NAMES_ITS_OWNER if rule.method == "POST"], ids=name_of)
async def test_a_stranger_makes_nothing_in_the_owner_s_name(house: House, rule: Rule) -> None:
    body = {**BODIES[name_of(rule)], "organization_id": OWNER}
    assert (await house.stranger.post(rule.path, json=body)).status_code == 403


async def test_after_all_that_the_owner_s_things_are_as_they_were(house: House) -> None:
    ids, client = house.ids, house.owner
    assert (await client.get(f"/v1/jobs/{ids['job_id']}")).json()["data"]["status"] == "pending"
    assert (await client.get(f"/v1/webhooks/{ids['webhook_id']}")).json()["data"]["active"] is True
    assert (await client.get(f"/v1/api-keys/{ids['key_id']}")).json()["data"]["disabled"] is False
    assert (await client.get(f"/v1/assets/{ids['asset_id']}")).content == b"file of the owner"
    secrets = (await client.get(f"/v1/organizations/{OWNER}/secrets")).json()["data"]
    assert [secret["name"] for secret in secrets] == [ids["name"]]
    assert (await client.get(f"/v1/organizations/{OWNER}/budget")).json()["data"]["monthly_limit_usd"] is None
    log = (await client.get("/v1/audit-logs", params={"limit": 200})).json()["data"]
    assert {entry["organization_id"] for entry in log} == {OWNER}


async def test_the_stream_of_an_organization_has_its_own_events_alone(house: House) -> None:
    async with house.stranger.stream("GET", "/v1/events/stream?after=0") as response:
        await house.owner.post("/v1/jobs", json=ECHO)
        mine = (await house.stranger.post("/v1/jobs", json={**ECHO, "metadata": {"last": True}})).json()["data"]["id"]
        seen = ""
        async for piece in response.aiter_text():
            seen += piece
            if mine in seen:
                break
    assert OWNER not in seen


async def test_an_administrator_of_all_finds_anybody_s_things(house: House) -> None:
    response = await house.edge.client.get(f"/v1/jobs/{house.ids['job_id']}")
    assert response.json()["data"]["organization_id"] == OWNER
    named = {"organization_id": STRANGER}
    assert (await house.edge.client.get(f"/v1/jobs/{house.ids['job_id']}", params=named)).status_code == 404
