"""Webhooks over HTTP: by the official client, and by hand."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering
from fabric_platform import FabricClient
from fabric_platform.errors import FabricNotFoundError, FabricValidationError
from fabric_platform.models import Webhook, WebhookDelivery
from fabric_platform.webhooks import construct_event
from receiver import Receiver, receiving
from ulid import ULID

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOB = {"modality": "text", "model": "echo", "input": {"prompt": "hi"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A router that may call this machine."""
    folder = tmp_path_factory.mktemp("calling")
    settings = RouterSettings(port=0, data_dir=folder, nodes=(), allow_private_targets=("127.0.0.0/8",))
    async with answering(settings) as edge:
        yield edge


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def org() -> str:
    return f"org-{ULID()}"


async def created(edge: Edge, org: str, **body: object) -> httpx.Response:
    return await edge.client.post(f"/v1/organizations/{org}/webhooks", json=body)


async def errors_of(edge: Edge, org: str, **body: object) -> list[tuple[str, str]]:
    response = await created(edge, org, **body)
    assert response.status_code == httpx.codes.BAD_REQUEST, response.text
    return [(error["path"], error["message"]) for error in response.json()["error"]["details"]["errors"]]


# ---- the official client ----


async def test_the_official_client_makes_reads_changes_and_deletes_webhooks(calling: Edge, org: str) -> None:
    def act() -> None:
        with FabricClient(base_url=calling.url, organization_id=org) as client:
            made = client.webhooks.create(
                url="https://example.com/hooks", events=["job.*"], resource_filter={"modality": "text"}
            )
            assert made["secret"].startswith("whsec_")
            webhook = Webhook(**made)
            assert (webhook.organization_id, webhook.event_filter, webhook.active) == (org, ["job.*"], True)
            assert [each["id"] for each in client.webhooks.list()] == [webhook.id]
            assert "secret" not in client.webhooks.get(webhook.id)
            changed = client.webhooks.update(webhook.id, url="https://new.example.com/hooks", active=False)
            assert (changed["url"], changed["active"]) == ("https://new.example.com/hooks", False)
            assert client.webhooks.deliveries(webhook.id, limit=5, offset=0) == []
            client.webhooks.delete(webhook.id)
            with pytest.raises(FabricNotFoundError):
                client.webhooks.get(webhook.id)
            with pytest.raises(FabricNotFoundError):
                client.webhooks.delete(webhook.id)
            with pytest.raises(FabricValidationError):
                client.webhooks.create(url="https://user:password@example.com", events=["job.*"])

    await asyncio.to_thread(act)


async def test_a_delivery_is_verified_listed_and_redelivered(calling: Edge, receiver: Receiver, org: str) -> None:
    made = (await created(calling, org, url=receiver.url(), events=["job.completed"])).json()["data"]
    await calling.client.post("/v1/jobs", json=JOB | {"organization_id": org})
    (got,) = await receiver.until(1)
    assert construct_event(got.body, got.headers["x-fabric-signature"], made["secret"]).kind == "job.completed"
    path = f"/v1/webhooks/{made['id']}/deliveries"
    listed = await calling.until(path, lambda response: [each["status"] for each in _data(response)] == ["delivered"])
    delivery = WebhookDelivery(**_data(listed)[0])
    assert (delivery.event_kind, delivery.status_code, delivery.attempt) == ("job.completed", 200, 1)
    assert delivery.event_id == got.headers["webhook-id"]
    assert 'fabric_webhook_attempts_total{status="delivered"}' in (await calling.client.get("/metrics")).text
    again = await calling.client.post(f"{path}/{delivery.id}/redeliver")
    assert (again.status_code, again.json()["data"]["status"]) == (202, "pending")
    _, second = await receiver.until(2)
    assert second.headers["webhook-id"] == got.headers["webhook-id"]
    newest = (await calling.client.get(path, params={"limit": 1, "offset": 0})).json()["data"]
    assert [each["id"] for each in newest] == [again.json()["data"]["id"]]
    oldest = (await calling.client.get(path, params={"limit": 5, "offset": 1})).json()["data"]
    assert [each["id"] for each in oldest] == [delivery.id]


async def test_a_jobs_webhook_url_is_signed_with_the_rotated_secret(
    calling: Edge, receiver: Receiver, org: str
) -> None:
    rotated = await calling.client.post(f"/v1/organizations/{org}/webhook-secret/rotate")
    secret = rotated.json()["data"]["secret"]
    job = JOB | {"organization_id": org, "webhook_url": receiver.url("/of-the-job")}
    job_id = (await calling.client.post("/v1/jobs", json=job)).json()["data"]["id"]
    (got,) = await receiver.until(1)
    event = construct_event(got.body, got.headers["x-fabric-signature"], secret)
    assert (event.kind, event.job_id, got.path) == ("job.completed", job_id, "/of-the-job")


async def test_a_webhook_gets_a_new_secret_of_its_own(calling: Edge, receiver: Receiver, org: str) -> None:
    made = (await created(calling, org, url=receiver.url(), events=["job.created"])).json()["data"]
    rotated = (await calling.client.post(f"/v1/webhooks/{made['id']}/rotate-secret")).json()["data"]["secret"]
    await calling.client.post("/v1/jobs", json=JOB | {"organization_id": org})
    (got,) = await receiver.until(1)
    assert rotated != made["secret"]
    assert construct_event(got.body, got.headers["x-fabric-signature"], rotated)


# ---- by hand ----


async def test_a_given_secret_is_kept_and_the_placeholder_of_the_samples_makes_one(calling: Edge, org: str) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = {"url": "https://example.com/hooks", "events": ["workflow.run.completed", "workflow.run.failed"]}
    given = await created(calling, org, **body, secret=secret)
    assert (given.status_code, given.json()["data"]["secret"]) == (201, secret)
    made = (await created(calling, org, **body, secret="whsec_...")).json()["data"]["secret"]
    assert len(made) > len("whsec_...")


async def test_event_filter_is_another_name_for_events(calling: Edge, org: str) -> None:
    made = await created(calling, org, url="https://example.com", event_filter=["job.failed"], max_retries=2)
    told = made.json()["data"]
    assert (told["events"], told["event_filter"], told["max_retries"]) == (["job.failed"], ["job.failed"], 2)


async def test_what_is_wrong_is_named_at_its_field(calling: Edge, org: str) -> None:
    url = "https://example.com"
    assert await errors_of(calling, org, url=url) == [
        ("events", "is missing: name kinds of events, such as job.completed, or job.*")
    ]
    wrong = {
        "secret": {"events": ["*"], "secret": "whsec_not base64!"},
        "max_retries": {"events": ["*"], "max_retries": 10},
        "resource_filter.colour": {"events": ["*"], "resource_filter": {"colour": "red"}},
        "event_filter": {"events": ["*"], "event_filter": ["job.*"]},
        "events[0]": {"events": ["Job done"]},
        "organization_id": {"events": ["*"], "organization_id": "another"},
        "url": {"events": ["*"], "url": "ftp://example.com"},
    }
    for path, body in wrong.items():
        errors = await errors_of(calling, org, **{"url": url, **body})
        assert [error[0] for error in errors] == [path]


async def test_a_private_address_is_refused_with_the_setting_that_allows_it(edge: Edge, org: str) -> None:
    (error,) = await errors_of(edge, org, url="http://127.0.0.1:9000/hook", events=["*"])
    assert error[0] == "url"
    assert "leads to 127.0.0.1, a loopback address" in error[1]
    assert "FABRIC_ALLOW_PRIVATE_TARGETS" in error[1]
    for url in ("http://169.254.169.254/", "http://[::1]/", "http://2130706433/", "file:///etc/passwd"):
        refused = await edge.client.post("/v1/jobs", json=JOB | {"webhook_url": url})
        assert refused.status_code == httpx.codes.BAD_REQUEST
        assert refused.json()["error"]["details"]["errors"][0]["path"] == "webhook_url"
    assert (await edge.client.get("/v1/jobs")).json()["data"]["jobs"] == []


async def test_another_organizations_webhooks_are_not_found(calling: Edge, org: str) -> None:
    webhook_id = (await created(calling, org, url="https://example.com", events=["*"])).json()["data"]["id"]
    theirs = {"x-organization-id": f"org-{ULID()}"}
    calls = [
        ("GET", f"/v1/webhooks/{webhook_id}"),
        ("PATCH", f"/v1/webhooks/{webhook_id}"),
        ("DELETE", f"/v1/webhooks/{webhook_id}"),
        ("GET", f"/v1/webhooks/{webhook_id}/deliveries"),
        ("POST", f"/v1/webhooks/{webhook_id}/rotate-secret"),
        ("POST", f"/v1/webhooks/{webhook_id}/deliveries/dlv_1/redeliver"),
    ]
    for method, path in calls:
        json = {"active": False} if method == "PATCH" else None
        response = await calling.client.request(method, path, headers=theirs, json=json)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found"), path
    assert (await calling.client.get("/v1/webhooks", headers=theirs)).json()["data"] == []
    assert (await calling.client.get(f"/v1/webhooks/{webhook_id}")).status_code == httpx.codes.OK


async def test_webhooks_made_without_a_path_belong_to_the_organization_that_is_named(calling: Edge, org: str) -> None:
    body = {"url": "https://example.com", "events": ["*"]}
    named = await calling.client.post("/v1/webhooks", json=body | {"organization_id": org})
    by_header = await calling.client.post("/v1/webhooks", json=body, headers={"x-organization-id": org})
    listed = (await calling.client.get(f"/v1/organizations/{org}/webhooks")).json()["data"]
    assert [each["id"] for each in listed] == [_data(named)["id"], _data(by_header)["id"]]


async def test_the_deliveries_of_a_job_are_listed_and_sent_again(calling: Edge, receiver: Receiver, org: str) -> None:
    made = (await created(calling, org, url=receiver.url("/hook"), events=["job.completed"])).json()["data"]
    job = JOB | {"organization_id": org, "webhook_url": receiver.url("/of-the-job")}
    job_id = (await calling.client.post("/v1/jobs", json=job)).json()["data"]["id"]
    path = f"/v1/jobs/{job_id}/deliveries"
    listed = await calling.until(path, lambda answer: [each["status"] for each in _data(answer)] == ["delivered"] * 2)
    assert {each["webhook_id"] for each in _data(listed)} == {made["id"], ""}
    for delivery in _data(listed):
        assert (delivery["job_id"], delivery["event_kind"], delivery["attempt"]) == (job_id, "job.completed", 1)
        again = await calling.client.post(f"{path}/{delivery['id']}/redeliver")
        assert (again.status_code, again.json()["data"]["webhook_id"]) == (202, delivery["webhook_id"])
    sent = [(each.path, each.headers["webhook-id"]) for each in await receiver.until(4)]
    assert Counter(sent) == Counter({(path, sent[0][1]): 2 for path in ("/hook", "/of-the-job")})
    (last,) = (await calling.client.get(path, params={"limit": 1, "offset": 3})).json()["data"]
    assert last["id"] == min(str(each["id"]) for each in _data(listed))
    unknown = await calling.client.post(f"{path}/dlv_1/redeliver")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.rounds(1)
async def test_a_restarted_router_goes_on_delivering(tmp_path: Path, receiver: Receiver) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), allow_private_targets=("true",))
    async with answering(settings) as edge:
        made = (await created(edge, "org-1", url=receiver.url(), events=["job.completed"])).json()["data"]
    async with answering(settings) as edge, asyncio.timeout(BOUND_S):
        await edge.client.post("/v1/jobs", json=JOB | {"organization_id": "org-1"})
        (got,) = await receiver.until(1)
        assert construct_event(got.body, got.headers["x-fabric-signature"], made["secret"])


async def test_the_official_client_names_a_refused_webhook(edge: Edge) -> None:
    def act() -> None:
        with (
            FabricClient(base_url=edge.url) as client,
            pytest.raises(FabricValidationError, match="a loopback address"),
        ):
            client.webhooks.create(url="http://127.0.0.1/", events=["job.*"])

    await asyncio.to_thread(act)


def _data(response: httpx.Response) -> list[dict[str, object]]:
    found: list[dict[str, object]] = response.json()["data"]
    return found
