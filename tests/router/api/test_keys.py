"""Keys are made, told once, limited to their scopes and their organization, and end when they should."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering

from protos.errors import Conflict, InputInvalid
from router.app import build_app
from router.key_file import SECRET_FILE
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_KEY = "fab_0123456789abcdef"
ECHO = {"modality": "text", "model": "echo", "input": {"prompt": "hello there"}}


def settings_in(folder: Path, **changes: Any) -> RouterSettings:
    return RouterSettings(port=0, data_dir=folder, nodes=(), **changes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A router that asks for keys. Its client has the administrator's."""
    async with answering(settings_in(tmp_path_factory.mktemp("keys"), api_keys=(ROOT_KEY,))) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        yield edge


async def made(edge: Edge, organization_id: str, **fields: Any) -> dict[str, Any]:
    response = await edge.client.post(
        "/v1/api-keys", json={"name": "a key", "organization_id": organization_id, **fields}
    )
    assert response.status_code == 201, response.text
    return dict(response.json()["data"])


@asynccontextmanager
async def holder(edge: Edge, secret: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=edge.url, timeout=BOUND_S, headers=headers) as client:
        yield client


async def start_and_end(settings: RouterSettings) -> None:
    app = build_app(settings)
    async with app.router.lifespan_context(app):
        pass


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


# ---- their life ----


async def test_a_key_is_told_once_and_only_its_beginning_is_kept(guarded: Edge) -> None:
    key = await made(guarded, "once")
    assert key["key"].startswith("fab_")
    assert len(key["key"]) >= 4 + 2 * 24
    assert key["key"].startswith(key["prefix"])
    assert len(key["prefix"]) == 12
    shown = (await guarded.client.get(f"/v1/api-keys/{key['id']}")).json()["data"]
    assert shown == {name: value for name, value in key.items() if name != "key"}
    database = guarded.parts.settings.data_dir / "fabric.db"
    with sqlite3.connect(database) as connection:
        (dump,) = connection.execute("SELECT group_concat(quote(id) || quote(digest) || quote(prefix)) FROM api_keys")
    assert key["prefix"] in dump[0]
    assert key["key"] not in dump[0]


async def test_the_file_that_keys_the_hashes_is_for_this_user_alone(guarded: Edge) -> None:
    path = guarded.parts.settings.data_dir / SECRET_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32


async def test_a_key_works_until_it_is_disabled(guarded: Edge) -> None:
    key = await made(guarded, "disabling")
    async with holder(guarded, key["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        response = await guarded.client.post(
            f"/v1/api-keys/{key['id']}/disable", headers={"content-type": "application/json"}
        )
        assert response.json()["data"]["disabled"] is True
        assert key["id"] in error_of(await client.get("/v1/jobs"), 401)
    assert "disabled" in error_of(await guarded.client.post(f"/v1/api-keys/{key['id']}/rotate"), 409)


async def test_rotating_keeps_the_id_and_ends_the_old_secret_at_once(guarded: Edge) -> None:
    key = await made(guarded, "rotating")
    again = (await guarded.client.post(f"/v1/api-keys/{key['id']}/rotate")).json()["data"]
    assert set(again) == set(key)
    assert again["id"] == key["id"]
    assert again["key"] != key["key"]
    async with holder(guarded, key["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 401
    async with holder(guarded, again["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200


async def test_a_deleted_key_is_gone(guarded: Edge) -> None:
    key = await made(guarded, "deleting")
    response = await guarded.client.delete(f"/v1/api-keys/{key['id']}")
    assert response.json()["data"] == {"id": key["id"], "organization_id": "deleting", "deleted": True}
    assert (await guarded.client.get(f"/v1/api-keys/{key['id']}")).status_code == 404
    assert (await guarded.client.delete(f"/v1/api-keys/{key['id']}")).status_code == 404
    async with holder(guarded, key["key"]) as client:
        assert "is not known" in error_of(await client.get("/v1/jobs"), 401)


async def test_the_list_is_newest_first_and_of_one_organization(guarded: Edge) -> None:
    first, second = await made(guarded, "listing"), await made(guarded, "listing")
    await made(guarded, "another")
    listed = (await guarded.client.get("/v1/api-keys", params={"organization_id": "listing"})).json()["data"]
    assert [key["id"] for key in listed] == [second["id"], first["id"]]
    assert all("key" not in key for key in listed)


async def test_an_expired_key_is_refused(guarded: Edge) -> None:
    message = error_of(
        await guarded.client.post("/v1/api-keys", json={"name": "late", "expires_at": "2020-01-01T00:00:00Z"}), 400
    )
    assert "expires_at" in message
    key = await made(guarded, "expiring", expires_at="2999-01-01T00:00:00Z")
    assert key["expires_at"] == "2999-01-01T00:00:00.000Z"


async def test_the_last_use_is_seen_at_once_and_written_when_the_router_ends(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, api_keys=(ROOT_KEY,))
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        key = await made(edge, "using")
        assert key["last_used_at"] is None
        async with holder(edge, key["key"]) as client:
            await client.get("/v1/jobs")
        used_at = (await edge.client.get(f"/v1/api-keys/{key['id']}")).json()["data"]["last_used_at"]
        assert used_at is not None
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        shown = (await edge.client.get(f"/v1/api-keys/{key['id']}")).json()["data"]
        assert shown["last_used_at"] == used_at
        async with holder(edge, key["key"]) as client:
            assert (await client.get("/v1/jobs")).status_code == 200


# ---- what they may do ----


async def test_a_key_without_the_scope_is_told_which_it_lacks(guarded: Edge) -> None:
    key = await made(guarded, "reading", scopes=["jobs:read"])
    async with holder(guarded, key["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        assert "jobs:write" in error_of(await client.post("/v1/jobs", json=ECHO), 403)
        assert "keys:read" in error_of(await client.get("/v1/api-keys"), 403)
        assert (await client.get("/v1/providers")).status_code == 200


async def test_the_scope_of_the_platform_s_documents_lets_a_key_work(guarded: Edge) -> None:
    key = await made(guarded, "working", scopes=["workflow.run"])
    assert key["scopes"] == ["workflow.run"]
    async with holder(guarded, key["key"]) as client:
        job = (await client.post("/v1/jobs", json=ECHO)).json()["data"]
        assert job["organization_id"] == "working"
        assert (await client.get(f"/v1/jobs/{job['id']}")).status_code == 200


async def test_an_unknown_scope_is_refused_with_those_there_are(guarded: Edge) -> None:
    message = error_of(await guarded.client.post("/v1/api-keys", json={"name": "x", "scopes": ["jobs:fly"]}), 400)
    assert "'jobs:fly'" in message
    assert "jobs:read" in message


async def test_without_scopes_a_key_can_work_but_not_make_keys(guarded: Edge) -> None:
    key = await made(guarded, "default")
    async with holder(guarded, key["key"]) as client:
        assert (await client.post("/v1/jobs", json=ECHO)).status_code == 202
        assert "keys:write" in error_of(await client.post("/v1/api-keys", json={"name": "x"}), 403)


async def test_nobody_makes_a_key_that_may_do_more_than_its_maker(guarded: Edge) -> None:
    key = await made(guarded, "escalating", scopes=["keys:*", "jobs:read"])
    async with holder(guarded, key["key"]) as client:
        assert "admin" in error_of(await client.post("/v1/api-keys", json={"name": "x", "scopes": ["admin"]}), 403)
        assert "admin" in error_of(
            await client.post("/v1/api-keys", json={"name": "x", "scopes": [], "rate_per_s": 1e4}), 403
        )
        assert error_of(await client.post("/v1/api-keys", json={"name": "x", "organization_id": "other"}), 403)
        assert error_of(await client.post("/v1/api-keys", json={"name": "x", "organization_id": "*"}), 403)
        mine = (await client.post("/v1/api-keys", json={"name": "x", "scopes": ["jobs:read"]})).json()["data"]
        assert mine["organization_id"] == "escalating"
        default = (await client.post("/v1/api-keys", json={"name": "x"})).json()["data"]
        assert default["scopes"] == []


async def test_a_stronger_key_s_secret_cannot_be_had_by_rotating_it(guarded: Edge) -> None:
    strong, weak = await made(guarded, "rotated", scopes=["admin"]), await made(guarded, "rotated", scopes=["keys:*"])
    async with holder(guarded, weak["key"]) as client:
        for call in (client.post(f"/v1/api-keys/{strong['id']}/rotate"), client.delete(f"/v1/api-keys/{strong['id']}")):
            assert error_of(await call, 403)


async def test_an_administrator_s_key_may_be_of_all_organizations(guarded: Edge) -> None:
    key = await made(guarded, "*", scopes=["admin"])
    async with holder(guarded, key["key"]) as client:
        for organization_id in ("one", "two"):
            body = {**ECHO, "organization_id": organization_id}
            assert (await client.post("/v1/jobs", json=body)).json()["data"]["organization_id"] == organization_id


# ---- which router asks for them ----


async def test_development_takes_any_key_and_warns_but_a_stored_one_counts(own_edge: Edge) -> None:
    assert (await own_edge.client.get("/v1/system/info")).json()["data"]["mode"] == "development"
    async with holder(own_edge, "fab_xxx") as client:
        response = await client.post("/v1/jobs", json=ECHO)
        assert response.status_code == 202
        assert "development" in response.headers["x-fabric-warning"]
    key = await made(own_edge, "mine", scopes=["jobs:*"])
    async with holder(own_edge, key["key"]) as client:
        response = await client.post("/v1/jobs", json=ECHO)
        assert response.json()["data"]["organization_id"] == "mine"
        assert "x-fabric-warning" not in response.headers
        assert (await client.get("/v1/api-keys")).status_code == 403
        await own_edge.client.post(f"/v1/api-keys/{key['id']}/disable")
        assert (await client.get("/v1/jobs")).status_code == 401


async def test_in_development_a_job_is_found_by_its_id_whosever_it_is(own_edge: Edge) -> None:
    for organization in ({}, {"organization_id": "acme"}):
        job = (await own_edge.client.post("/v1/jobs", json={**ECHO, **organization})).json()["data"]
        assert (await own_edge.client.get(f"/v1/jobs/{job['id']}")).json()["data"]["id"] == job["id"]


async def test_an_administrator_s_key_in_the_store_ends_development_at_the_next_start(tmp_path: Path) -> None:
    async with answering(settings_in(tmp_path)) as edge:
        key = await made(edge, "*", scopes=["admin"])
        assert (await edge.client.get("/v1/jobs")).status_code == 200
    async with answering(settings_in(tmp_path)) as edge:
        assert (await edge.client.get("/v1/jobs")).status_code == 401
        async with holder(edge, key["key"]) as client:
            assert (await client.get("/v1/system/info")).json()["data"]["mode"] == "keys"
    async with answering(settings_in(tmp_path, host="0.0.0.0")) as edge:
        assert (await edge.client.get("/v1/jobs")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_an_address_that_others_reach_needs_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputInvalid, match=r"FABRIC_HOST: is .*set FABRIC_API_KEYS, make one with `fabric-node keys"):
        await start_and_end(settings_in(tmp_path, host=host))


async def test_a_secret_file_that_others_can_read_stops_the_start(tmp_path: Path) -> None:
    await start_and_end(settings_in(tmp_path))
    (tmp_path / SECRET_FILE).chmod(0o644)
    with pytest.raises(Conflict, match=f"chmod 600 .*{SECRET_FILE}"):
        await start_and_end(settings_in(tmp_path))


async def test_a_key_costs_no_read_of_the_database(guarded: Edge) -> None:
    key = await made(guarded, "cached")
    async with holder(guarded, key["key"]) as client, asyncio.timeout(BOUND_S):
        await guarded.parts.store.close()
        try:
            assert (await client.get("/v1/providers")).status_code == 200
        finally:
            await guarded.parts.store.open()
