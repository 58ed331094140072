"""The flat client of fabric-platform 0.8.1 against a running router: each method that the pages name.

Not about what it raises (test_flat_errors.py).
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from clients.flat import PYTHON, Flat
from clients.world import DEFAULT_ORGANIZATION, World
from edge import BOUND_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TALK = 'fabric.create_job("text", {"prompt": prompt}, params={"temperature": 0})'


def kinds(events: list[dict[str, Any]]) -> list[str]:  # Any: decoded JSON
    return [event["kind"] for event in events]


async def test_its_environment_has_the_release_that_it_is_named_for(flat: Flat) -> None:
    code = 'from importlib.metadata import version\nversion("fabric-platform")'
    assert PYTHON.parents[1].name == f".venv-fabric-{await flat.value(code)}"


# ---- jobs and their events ----


async def test_a_job_is_made_read_listed_and_paid_nothing_for(flat: Flat) -> None:
    job = await flat.value(TALK, prompt="to be read")
    assert (job["status"], job["organization_id"]) == ("pending", DEFAULT_ORGANIZATION)
    events = await flat.value("list(fabric.stream_job_events(id))", id=job["id"])
    read = await flat.value("fabric.get_job(id)", id=job["id"])
    assert (read["id"], read["status"], read["output"]["text"]) == (job["id"], "completed", "to be read")
    assert kinds(events) == ["job.created", "job.started", "job.completed"]
    usage = await flat.value("fabric.get_job_usage(id)", id=job["id"])
    assert (usage["job_id"], usage["output_tokens"], usage["cost_micro"]) == (job["id"], 3, 0)


async def test_a_list_goes_on_where_its_cursor_says(flat: Flat) -> None:
    made = [(await flat.value(TALK, prompt="to be listed"))["id"] for _ in range(3)]
    first = await flat.value("fabric.list_jobs(limit=2)")
    assert ([job["id"] for job in first["jobs"]], first["has_more"]) == (made[:0:-1], True)
    second = await flat.value("fabric.list_jobs(limit=1, cursor=cursor)", cursor=first["cursor"])
    assert [job["id"] for job in second["jobs"]] == made[:1]


async def test_a_repeated_idempotency_key_gives_the_same_job_and_another_payload_is_refused(flat: Flat) -> None:
    code = 'fabric.create_job("text", {"prompt": prompt}, idempotency_key="the-same")'
    first, second = [await flat.value(code, prompt="once") for _ in range(2)]
    assert second["id"] == first["id"]
    refused = await flat.raised(code, prompt="another")
    assert (refused.type, refused.status) == ("fabric_platform.FabricValidationError", 422)
    assert refused.code == "idempotency_key_reused"


async def test_a_run_s_events_are_its_job_s(flat: Flat, world: World) -> None:
    names = {"run": world.done["workflow_run_id"], "job": world.done["id"]}
    of_run = await flat.value("list(fabric.stream_run_events(run, include_internal=True))", **names)
    assert of_run == await flat.value("list(fabric.stream_job_events(job))", **names)
    assert {event["run_id"] for event in of_run} == {names["run"]}


async def test_all_events_are_followed_live(flat: Flat, world: World) -> None:
    code = 'for event in fabric.stream_events(): print(event["kind"], event["job_id"])'
    await world.at_rest()
    following = asyncio.create_task(flat.ran(code, prints=3))
    made = await world.jobs_until(following)
    seen = following.result().printed
    assert {kind for kind, _ in seen} <= {"job.created", "job.started", "job.completed"}
    assert {job for _, job in seen} <= set(made)


# ---- providers ----


async def test_providers_are_listed_by_both_names(flat: Flat) -> None:
    listed = await flat.value("fabric.providers()")
    assert {each["id"] for each in listed} == {"node", "echo", "openai"}
    assert {each["health"]["status"] for each in listed} == {"healthy"}
    by_alias = await flat.value("fabric.list_providers()")
    assert [each["models"] for each in by_alias] == [each["models"] for each in listed]


async def test_a_provider_is_executed_directly(flat: Flat) -> None:
    local = await flat.value('fabric.execute_provider("text", {"prompt": "one two three"}, params={"temperature": 0})')
    assert (local["provider_id"], local["output"]["text"]) == ("node", "one two three")
    assert local["usage"]["output_tokens"] == 3
    remote = await flat.value('fabric.execute_provider("text", {"prompt": "Hello there"}, model="gpt-4o")')
    assert (remote["provider_id"], remote["output"]["text"]) == ("openai", "Hello there")


async def test_a_local_estimate_is_nothing_and_a_vendor_s_has_its_price(flat: Flat) -> None:
    local = await flat.value('fabric.estimate_cost("text", {"prompt": "Hello"})')
    assert (local["provider_id"], local["estimated_cost_usd"], local["available"]) == ("node", 0, True)
    remote = await flat.value('fabric.estimate_cost("text", {"prompt": "Hello"}, model="gpt-4")')
    assert remote["provider_id"] == "openai"
    assert remote["estimated_cost_usd"] > 0


# ---- webhooks ----


async def test_webhooks_are_made_read_changed_and_deleted(flat: Flat, org: str) -> None:
    code = 'fabric.create_webhook(org, "https://example.com/hooks", ["job.*"], secret, {"modality": "text"})'
    made = await flat.value(code, org=org, secret=SECRET)
    assert (made["organization_id"], made["secret"], made["events"]) == (org, SECRET, ["job.*"])
    assert [each["id"] for each in await flat.value("fabric.list_webhooks(org)", org=org)] == [made["id"]]
    assert "secret" not in await flat.value("fabric.get_webhook(id)", id=made["id"])
    changed = await flat.value('fabric.update_webhook(id, url="https://new.example.com", active=False)', id=made["id"])
    assert (changed["url"], changed["active"]) == ("https://new.example.com", False)
    await flat.value("fabric.delete_webhook(id)", id=made["id"])
    assert await flat.value("fabric.list_webhooks(org)", org=org) == []


async def test_deliveries_are_listed(flat: Flat, world: World, org: str) -> None:
    names = {"org": org, "url": world.receiver.url(f"/{org}")}
    made = await flat.value('fabric.create_webhook(org, url, ["job.completed"])', **names)
    job = {"modality": "text", "input": {"prompt": "hi"}, "organization_id": org}
    await world.edge.client.post("/v1/jobs", json=job)
    path = f"/v1/webhooks/{made['id']}/deliveries"
    await world.edge.until(path, lambda response: '"delivered"' in response.text)
    (delivery,) = await flat.value("fabric.list_webhook_deliveries(id, limit=5, offset=0)", id=made["id"])
    assert (delivery["event_kind"], delivery["status_code"], delivery["attempt"]) == ("job.completed", 200, 1)
    assert await flat.value("fabric.list_webhook_deliveries(id, offset=1)", id=made["id"]) == []


async def test_an_organization_s_webhook_secret_is_rotated(flat: Flat, org: str) -> None:
    first, second = [await flat.value("fabric.rotate_webhook_secret(org)", org=org) for _ in range(2)]
    assert first["secret"].startswith("whsec_")
    assert second["secret"] != first["secret"]


# ---- API keys ----


async def test_api_keys_are_made_read_rotated_disabled_and_deleted(flat: Flat) -> None:
    made = await flat.value(
        'fabric.create_api_key("ci-pipeline", org, scopes=["workflow.run"])', org=DEFAULT_ORGANIZATION
    )
    key = {"id": made["id"]}
    assert made["key"].startswith(made["prefix"])
    assert made["id"] in [each["id"] for each in await flat.value("fabric.list_api_keys()")]
    assert "key" not in await flat.value("fabric.get_api_key(id)", **key)
    rotated = await flat.value("fabric.rotate_api_key(id)", **key)
    assert (rotated["id"], rotated["key"] != made["key"]) == (made["id"], True)
    await flat.value("fabric.disable_api_key(id)", **key)
    assert (await flat.value("fabric.get_api_key(id)", **key))["disabled"] is True
    await flat.value("fabric.delete_api_key(id)", **key)
    assert (await flat.raised("fabric.get_api_key(id)", **key)).code == "not_found"


# ---- assets ----


async def test_assets_are_uploaded_listed_signed_and_downloaded(flat: Flat, org: str, tmp_path: Path) -> None:
    path = tmp_path / "read me.txt"
    path.write_bytes(b"from a path")
    of_path = await flat.value("fabric.upload_asset(path, organization_id=org)", path=str(path), org=org)
    code = 'fabric.upload_asset(b"0123456789", filename="digits.txt", content_type="text/plain", organization_id=org)'
    of_bytes = await flat.value(code, org=org)
    assert (of_path["content_type"], of_path["size_bytes"]) == ("text/plain", 11)
    assert (of_bytes["organization_id"], of_bytes["content_type"], of_bytes["size_bytes"]) == (org, "text/plain", 10)
    listed = await flat.value("fabric.list_assets(limit=2, offset=0, organization_id=org)", org=org)
    assert [each["id"] for each in listed] == [of_bytes["id"], of_path["id"]]
    downloaded = await flat.value("fabric.download_asset(id)", id=of_path["id"])
    assert bytes.fromhex(downloaded) == b"from a path"


async def test_a_signed_url_opens_without_a_client(flat: Flat, world: World) -> None:
    asset = await flat.value('fabric.upload_asset(b"0123456789", filename="digits.txt")')
    signed = await flat.value("fabric.asset_signed_url(id, ttl_seconds=60)", id=asset["id"])
    assert (signed["asset_id"], signed["ttl_seconds"]) == (asset["id"], 60)
    async with httpx.AsyncClient(base_url=world.url, timeout=BOUND_S) as nobody:
        assert (await nobody.get(signed["url"])).content == b"0123456789"
    assert (await flat.value("fabric.asset_signed_url(id)", id=asset["id"]))["ttl_seconds"] > 60


# ---- secrets, money, records ----


async def test_secrets_are_set_listed_by_name_and_deleted(flat: Flat) -> None:
    await flat.value('fabric.set_secret("OPENAI_API_KEY", "sk-...")')
    assert await flat.value("fabric.list_secrets()") == ["OPENAI_API_KEY"]
    await flat.value('fabric.delete_secret("OPENAI_API_KEY")')
    assert await flat.value("fabric.list_secrets()") == []


async def test_usage_is_summed_recorded_and_told_by_day(flat: Flat, world: World, org: str) -> None:
    job = {"modality": "text", "input": {"prompt": "one two three"}, "organization_id": org}
    made = (await world.edge.client.post("/v1/jobs", json=job)).json()["data"]["id"]
    await world.edge.ended(made)
    usage = await flat.value("fabric.get_org_usage(org)", org=org)
    assert (usage["organization_id"], usage["total_runs"], usage["output_tokens"]) == (org, 1, 3)
    (record,) = await flat.value("fabric.get_org_usage_records(org)", org=org)
    assert (record["job_id"], record["provider_id"], record["outcome"]) == (made, "node", "completed")
    (day,) = await flat.value("fabric.get_org_usage_daily(org)", org=org)
    assert (day["runs"], day["cost_micro"]) == (1, 0)
    assert day["date"] in {time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (time.time(), time.time() - 60)}


async def test_a_budget_is_set_and_spending_told_against_it(flat: Flat, org: str) -> None:
    assert (await flat.value("fabric.get_org_budget(org)", org=org))["monthly_limit_usd"] is None
    assert (await flat.value("fabric.set_org_budget(org, 20.5)", org=org))["monthly_limit_usd"] == 20.5
    assert (await flat.value("fabric.get_org_budget(org)", org=org))["monthly_limit_usd"] == 20.5
    spending = await flat.value("fabric.get_spending(org)", org=org)
    assert (spending["month"]["spent_micro"], spending["month"]["remaining_usd"]) == (0, 20.5)


async def test_audit_logs_tell_of_what_was_changed(flat: Flat, org: str) -> None:
    made = await flat.value('fabric.create_webhook(org, "https://example.com/hooks", ["job.*"])', org=org)
    await flat.value("fabric.delete_webhook(id)", id=made["id"])
    (deleted, created) = await flat.value("fabric.get_org_audit_logs(org)", org=org)
    assert (created["resource_type"], deleted["resource_id"]) == ("webhook", made["id"])
    assert deleted["id"] in [each["id"] for each in await flat.value("fabric.get_audit_logs()")]


# ---- nodes and health ----


async def test_nodes_are_listed_and_read(flat: Flat) -> None:
    (node,) = await flat.value("fabric.list_nodes()")
    assert (node["ready"], node["health"]["status"]) == (True, "healthy")
    assert {model["id"] for model in node["models"]} >= {"fake-text", "fake-image"}
    assert (await flat.value("fabric.get_node(id)", id=node["id"]))["device"] == node["device"]


async def test_the_system_and_its_health_are_told(flat: Flat) -> None:
    status = await flat.value("fabric.system_status()")
    assert (status["status"], status["ready"], len(status["nodes"])) == ("ok", True, 1)
    info = await flat.value("fabric.system_info()")
    assert (info["mode"], set(info["modalities"])) == ("development", {"text", "image", "audio", "embedding"})
    assert (await flat.value("fabric.health_check()"))["status"] == "ok"
