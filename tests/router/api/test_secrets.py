"""Vendors' keys: set, listed by name, used, deleted; and never told again, by anything the router writes or answers."""

import asyncio
import logging
from pathlib import Path

import fabric_platform
import pytest
from cryptography.fernet import Fernet
from edge import BOUND_S, Edge, answering

from protos.types import DEFAULT_ORGANIZATION, OrganizationId
from router.settings import RouterSettings
from router.store.secrets import SECRETS_LIMIT
from router.vault import SealBroken

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUE = "sk-proj-THIS-MUST-NEVER-BE-SEEN-AGAIN"
NAME = "OPENAI_API_KEY"


def path_of(organization: str) -> str:
    return f"/v1/organizations/{organization}/secrets"


async def test_the_official_client_sets_lists_and_deletes(edge: Edge) -> None:
    def talk() -> tuple[list[str], list[str]]:
        with fabric_platform.FabricClient(base_url=edge.url, organization_id="org-secret") as fabric:
            fabric.organizations.create_secret(NAME, VALUE)
            names = fabric.organizations.list_secrets()
            fabric.organizations.delete_secret(NAME)
            with pytest.raises(fabric_platform.FabricNotFoundError):
                fabric.organizations.delete_secret(NAME)
            return names, fabric.organizations.list_secrets()

    assert await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S) == ([NAME], [])


async def test_a_secret_is_an_organization_s_own_and_goes_before_the_settings(edge: Edge) -> None:
    key_of = edge.parts.secrets.key_of
    created = await edge.client.post(path_of("org-a"), json={"name": NAME, "value": VALUE})
    assert created.status_code == 201
    assert (key_of(OrganizationId("org-a"), NAME), key_of(OrganizationId("org-b"), NAME)) == (VALUE, None)
    assert (await edge.client.get(path_of("org-b"))).json()["data"] == []
    assert (await edge.client.delete(f"{path_of('org-b')}/{NAME}")).status_code == 404
    replaced = await edge.client.post(path_of("org-a"), json={"name": NAME, "value": "sk-other"})
    assert replaced.status_code == 200
    assert replaced.json()["data"]["created_at"] == created.json()["data"]["created_at"]
    assert key_of(OrganizationId("org-a"), NAME) == "sk-other"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": VALUE, "value": "x"}, "name"),
        ({"name": [VALUE], "value": "x"}, "name"),
        ({"name": NAME, "value": {"key": VALUE}}, "value"),
        ({"name": NAME, "value": f"{VALUE}\r\nx-more: 1"}, "value"),
        ({"name": NAME, "value": VALUE * 200}, "value"),
        ({"name": NAME, "value": ""}, "value"),
        ({"value": VALUE}, "name"),
        ({"name": NAME, "value": VALUE, VALUE.lower(): 1}, VALUE.lower()),
        (VALUE, ""),
    ],
)
async def test_a_bad_secret_is_refused_without_showing_it(edge: Edge, body: object, path: str) -> None:
    refused = await edge.client.post(path_of("org-bad"), json=body)
    assert refused.status_code == 400
    assert [each["path"] for each in refused.json()["error"]["details"]["errors"]] == [path]
    assert VALUE not in refused.text


async def test_an_organization_keeps_a_bounded_number(edge: Edge) -> None:
    for number in range(SECRETS_LIMIT):
        await edge.parts.secrets.put(OrganizationId("org-many"), f"KEY_{number}", VALUE)
    refused = await edge.client.post(path_of("org-many"), json={"name": "ONE_MORE", "value": VALUE})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    again = await edge.client.post(path_of("org-many"), json={"name": "KEY_0", "value": VALUE})
    assert again.status_code == 200


async def test_a_new_key_takes_over_and_a_lost_one_is_told_by_the_call_that_needs_it(tmp_path: Path) -> None:
    old, new, other = (Fernet.generate_key().decode() for _ in range(3))
    kept: list[str | None] = []
    for keys in ((old,), (new, old), (new,)):
        async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=(), secret_key=keys)) as edge:
            if keys == (old,):
                await edge.client.post(path_of(DEFAULT_ORGANIZATION), json={"name": NAME, "value": VALUE})
            kept.append(edge.parts.secrets.key_of(DEFAULT_ORGANIZATION, NAME))
    assert kept == [VALUE] * 3
    async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=(), secret_key=(other,))) as edge:
        listed = await edge.client.get(path_of(DEFAULT_ORGANIZATION))
        assert [each["name"] for each in listed.json()["data"]] == [NAME]
        with pytest.raises(SealBroken, match="another key"):
            edge.parts.secrets.key_of(DEFAULT_ORGANIZATION, NAME)


async def test_nothing_that_the_router_writes_logs_or_answers_has_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    organization = "org-quiet"
    bodies = ({"name": NAME, "value": VALUE}, {"name": VALUE, "value": NAME}, {"name": NAME, "value": [VALUE]})
    async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=())) as edge:
        answers = [await edge.client.post(path_of(organization), json=body) for body in bodies]
        answers.append(await edge.client.get(path_of(organization)))
        assert edge.parts.secrets.key_of(OrganizationId(organization), NAME) == VALUE
        everything = repr(edge.parts)
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]  # the write-ahead log is there
        answers.append(await edge.client.delete(f"{path_of(organization)}/{NAME}"))
    written += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(NAME.encode() in content for content in written)  # the right files are searched
    for content in (*written, *(answer.content for answer in answers), everything.encode(), caplog.text.encode()):
        assert VALUE.encode() not in content
