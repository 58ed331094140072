"""The official client against a running router: what it sends is taken, what it reads is there."""

import asyncio
import itertools

import fabric_platform
import pytest
from edge import BOUND_S, Edge

from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"prompt": "one two three"}


async def test_providers_are_listed_executed_and_estimated(box: Edge) -> None:
    def talk() -> tuple[list[dict], dict, dict]:  # type: ignore[type-arg]  # decoded JSON
        with fabric_platform.FabricClient(base_url=box.url) as fabric:
            return (
                fabric.providers.list(),
                fabric.providers.execute("text", TEXT, params={"temperature": 0}),
                fabric.providers.estimate("text", TEXT),
            )

    listed, executed, estimate = await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S)
    from fabric_platform.models import ProviderCapability, ProviderExecuteResponse

    assert [ProviderCapability(**each).provider_id for each in listed] == ["node", "echo"]
    answer = ProviderExecuteResponse(**executed)
    assert (answer.provider_id, answer.model, answer.output["text"]) == ("node", "fake-text", TEXT["prompt"])
    assert answer.usage["output_tokens"] == 3
    assert (estimate["estimated_cost_usd"], estimate["available"]) == (0, True)


async def test_health_is_checked(box: Edge) -> None:
    def check() -> dict:  # type: ignore[type-arg]  # decoded JSON
        with fabric_platform.FabricClient(base_url=box.url) as fabric:
            return fabric.admin.health_check()  # type: ignore[no-any-return]

    assert (await asyncio.wait_for(asyncio.to_thread(check), BOUND_S))["status"] == "ok"


async def test_a_job_s_and_a_run_s_events_are_streamed(box: Edge) -> None:
    job = (await box.client.post("/v1/jobs", json={"modality": "text", "input": TEXT})).json()["data"]

    def stream() -> tuple[list[dict], list[dict]]:  # type: ignore[type-arg]  # decoded JSON
        with fabric_platform.FabricClient(base_url=box.url) as fabric:
            return (
                list(fabric.events.stream_job(job["id"])),
                list(fabric.events.stream_run(job["workflow_run_id"], include_internal=True)),
            )

    of_job, of_run = await asyncio.wait_for(asyncio.to_thread(stream), BOUND_S)
    from fabric_platform.models import DomainEvent

    events = [DomainEvent(**each) for each in of_job]
    assert [event.kind for event in events] == ["job.created", "job.started", "job.completed"]
    assert {event.run_id for event in events} == {job["workflow_run_id"]}
    assert of_run == of_job


async def test_all_events_are_streamed(shared_box: Edge) -> None:
    def stream() -> list[str]:
        with fabric_platform.FabricClient(base_url=shared_box.url) as fabric:
            return [event["kind"] for event in itertools.islice(fabric.events.stream(), 3)]

    following = asyncio.create_task(asyncio.to_thread(stream))
    async with asyncio.timeout(BOUND_S):
        while not following.done():  # its stream starts live, at a moment that only it knows: so jobs keep coming
            await shared_box.client.post("/v1/jobs", json={"modality": "text", "input": TEXT})
            await asyncio.wait({following}, timeout=0.05)
    assert set(following.result()) <= {"job.created", "job.started", "job.completed"}


async def test_errors_become_the_client_s_own(box: Edge) -> None:
    def fail() -> None:
        with fabric_platform.FabricClient(base_url=box.url) as fabric:
            fabric.providers.execute("text", TEXT, model="gone")

    from fabric_platform.errors import FabricNotFoundError

    with pytest.raises(FabricNotFoundError) as caught:
        await asyncio.wait_for(asyncio.to_thread(fail), BOUND_S)
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id


async def test_its_default_address_is_the_router_s() -> None:
    with fabric_platform.FabricClient() as fabric:
        assert fabric.base_url.endswith(f":{RouterSettings().port}")
