"""The official client, fabric-platform 0.17.1, against a running router: each call of its resources.

Not about what it raises (test_resource_errors.py).
"""

import asyncio
import inspect
import itertools
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from clients.told import told
from clients.world import World
from edge import BOUND_S
from fabric_platform import FabricClient
from fabric_platform.errors import FabricNotFoundError
from fabric_platform.models import (
    ApiKey,
    Asset,
    CreateApiKeyResponse,
    DomainEvent,
    ProviderCapability,
    ProviderExecuteResponse,
    SignedUrlResponse,
    Webhook,
    WebhookDelivery,
)
from fabric_platform.webhooks import construct_event, verify_signature

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"prompt": "one two three"}


@pytest.fixture
def theirs(world: World, org: str) -> Iterator[FabricClient]:
    """Of an organization that nobody has used."""
    with FabricClient(base_url=world.url, organization_id=org) as client:
        yield client


# ---- providers ----


async def test_providers_are_listed_executed_and_estimated(fabric: FabricClient) -> None:
    listed = [ProviderCapability(**each) for each in await told(fabric.providers.list)]
    assert {each.provider_id for each in listed} == {"node", "echo", "openai"}
    executed = await told(lambda: fabric.providers.execute("text", TEXT, params={"temperature": 0}))
    answer = ProviderExecuteResponse(**executed)
    assert (answer.provider_id, answer.model, answer.output["text"]) == ("node", "fake-text", TEXT["prompt"])
    assert answer.usage["output_tokens"] == 3
    estimate = await told(lambda: fabric.providers.estimate("text", TEXT))
    assert (estimate["estimated_cost_usd"], estimate["available"]) == (0, True)
    remote = await told(lambda: fabric.providers.estimate("text", TEXT, model="gpt-4o"))
    assert remote["estimated_cost_usd"] > 0


# ---- events ----


async def test_a_job_s_and_its_run_s_events_are_streamed(fabric: FabricClient, world: World) -> None:
    job, run = world.done["id"], world.done["workflow_run_id"]
    of_job = await told(lambda: list(fabric.events.stream_job(job, include_internal=True)))
    events = [DomainEvent(**each) for each in of_job]
    assert [event.kind for event in events] == ["job.created", "job.started", "job.completed"]
    assert {event.run_id for event in events} == {run}
    assert await told(lambda: list(fabric.events.stream_run(run))) == of_job


async def test_all_events_are_streamed_live(fabric: FabricClient, world: World) -> None:
    def three() -> list[str]:
        return [event["kind"] for event in itertools.islice(fabric.events.stream(), 3)]

    following = asyncio.create_task(asyncio.to_thread(three))
    await world.jobs_until(following)
    assert set(following.result()) <= {"job.created", "job.started", "job.completed"}


# ---- webhooks ----


async def test_webhooks_are_made_read_changed_and_deleted(theirs: FabricClient, org: str) -> None:
    url, conditions = "https://example.com/hooks", {"modality": "text"}
    made = await told(lambda: theirs.webhooks.create(url=url, events=["job.*"], resource_filter=conditions))
    webhook = Webhook(**made)
    assert (webhook.organization_id, webhook.event_filter, webhook.active) == (org, ["job.*"], True)
    assert [each["id"] for each in await told(theirs.webhooks.list)] == [webhook.id]
    assert Webhook(**await told(lambda: theirs.webhooks.get(webhook.id))).url == url
    changed = await told(lambda: theirs.webhooks.update(webhook.id, url="https://new.example.com", active=False))
    assert (changed["url"], changed["active"]) == ("https://new.example.com", False)
    assert await told(lambda: theirs.webhooks.delete(webhook.id)) is None
    assert await told(lambda: theirs.webhooks.list(org)) == []


async def test_a_real_delivery_is_verified_by_the_client_s_own_helpers_and_listed(
    theirs: FabricClient, world: World, org: str
) -> None:
    url, before = world.receiver.url(f"/{org}"), len(world.receiver.received)
    made = await told(lambda: theirs.webhooks.create(org, url=url, events=["job.completed"]))
    job_id = await world.job(organization_id=org)
    got = (await world.receiver.until(before + 1))[before]
    signature = got.headers["x-fabric-signature"]
    event = construct_event(got.body, signature, made["secret"])
    assert (event.kind, event.job_id, event.organization_id) == ("job.completed", job_id, org)
    assert verify_signature(got.body.decode(), signature, made["secret"])
    assert not verify_signature(got.body + b" ", signature, made["secret"])
    assert not verify_signature(got.body, signature, "whsec_another")
    with pytest.raises(ValueError, match="signature"):
        construct_event(got.body, "sha256=00", made["secret"])
    await world.edge.until(f"/v1/webhooks/{made['id']}/deliveries", lambda answer: '"delivered"' in answer.text)
    (listed,) = await told(lambda: theirs.webhooks.deliveries(made["id"], limit=5, offset=0))
    delivery = WebhookDelivery(**listed)
    assert (delivery.event_kind, delivery.status_code, delivery.attempt) == ("job.completed", 200, 1)


# ---- API keys ----


async def test_api_keys_are_made_read_rotated_disabled_and_deleted(fabric: FabricClient, org: str) -> None:
    made = CreateApiKeyResponse(**await told(lambda: fabric.api_keys.create("ci", org, scopes=["workflow.run"])))
    assert made.key.startswith("fab_")
    assert ApiKey(**await told(lambda: fabric.api_keys.get(made.id))).scopes == ["workflow.run"]
    assert made.id in [each["id"] for each in await told(fabric.api_keys.list)]
    rotated = CreateApiKeyResponse(**await told(lambda: fabric.api_keys.rotate(made.id)))
    assert (rotated.id, rotated.key == made.key) == (made.id, False)
    assert await told(lambda: fabric.api_keys.disable(made.id)) is None
    assert (await told(lambda: fabric.api_keys.get(made.id)))["disabled"] is True
    assert await told(lambda: fabric.api_keys.delete(made.id)) is None
    with pytest.raises(FabricNotFoundError):
        await told(lambda: fabric.api_keys.get(made.id))


# ---- assets ----


async def test_assets_are_uploaded_listed_and_downloaded(fabric: FabricClient, org: str, tmp_path: Path) -> None:
    path = tmp_path / "read me.txt"
    path.write_bytes(b"from a path")
    of_path = Asset(**await told(lambda: fabric.assets.upload(path, organization_id=org)))
    upload = {"filename": "digits.txt", "content_type": "text/plain", "organization_id": org}
    of_bytes = Asset(**await told(lambda: fabric.assets.upload(b"0123456789", **upload)))
    assert (of_path.content_type, of_path.size_bytes) == ("text/plain", 11)
    assert (of_bytes.content_type, of_bytes.size_bytes, of_bytes.organization_id) == ("text/plain", 10, org)
    listed = await told(lambda: fabric.assets.list(limit=2, offset=0, organization_id=org))
    assert [each["id"] for each in listed] == [of_bytes.id, of_path.id]
    assert await told(lambda: fabric.assets.download(of_path.id)) == b"from a path"


async def test_a_signed_url_opens_without_the_client(fabric: FabricClient, world: World) -> None:
    asset = await told(lambda: fabric.assets.upload(b"0123456789", filename="digits.txt"))
    signed = SignedUrlResponse(**await told(lambda: fabric.assets.signed_url(asset["id"], ttl_seconds=60)))
    assert (signed.asset_id, signed.ttl_seconds) == (asset["id"], 60)
    async with httpx.AsyncClient(base_url=world.url, timeout=BOUND_S) as nobody:
        assert (await nobody.get(signed.url)).content == b"0123456789"
    assert (await told(lambda: fabric.assets.signed_url(asset["id"])))["ttl_seconds"] > 60


# ---- the rest ----


async def test_health_is_checked(fabric: FabricClient) -> None:
    assert (await told(fabric.admin.health_check))["status"] == "ok"


async def test_it_is_the_release_that_these_tests_are_about() -> None:
    assert version("fabric-platform") == "0.17.1"


async def test_its_default_address_is_the_router_s() -> None:
    with FabricClient() as fabric:
        assert fabric.base_url.endswith(f":{RouterSettings().port}")


async def test_each_call_of_these_resources_is_made_here(fabric: FabricClient) -> None:
    made = set(re.findall(r"(?:fabric|theirs)\.(\w+\.\w+)", Path(__file__).read_text()))
    resources = {name: getattr(fabric, name) for name in ("providers", "events", "webhooks", "api_keys", "assets")}
    there_are = {
        f"{name}.{method}"
        for name, resource in resources.items()
        for method, _ in inspect.getmembers(resource, inspect.ismethod)
        if not method.startswith("_")
    }
    assert there_are - made == set()
