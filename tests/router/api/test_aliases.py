"""An alias through every door of a router: jobs, direct calls, gRPC, the OpenAI dialect, estimates."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge import Edge, answering, fake_node
from vendors.book import Book, Tariff
from vendors.faults import Status, always
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from protos.errors import InputInvalid
from protos.types import ModelId, Started, Task, TaskId, TextRequest
from providers.settings import ProviderSettings
from router.app import build_app
from router.settings import RouterSettings

ALIASES = """
[[model]]
id = "fake-text"
engine = "fake"
modality = "text"

[[alias]]
id = "best"
candidates = ["gpt-4o", "openai/gpt-4o-mini", "fake-text"]

[[alias]]
id = "off"
candidates = ["claude-sonnet-4-5"]
"""
BEST = {"modality": "text", "model": "best", "input": {"prompt": "seven"}}


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[tuple[Edge, OpenAIStandIn]]:
    """A router with a node and a vendor."""
    models = folder / "aliases.toml"
    models.write_text(ALIASES)
    vendor = OpenAIStandIn(book=Book({"gpt-4o": Tariff(input_micro=2_500_000, output_micro=10_000_000)}))
    async with fake_node(folder / "node") as node, serving(vendor.app()) as url:
        vendors = ProviderSettings(openai_api_key="sk-standin", openai_base_url=f"{url}/v1")
        settings = RouterSettings(
            port=0, grpc_port=0, data_dir=folder / "router", nodes=(node.target,), models=models, vendors=vendors
        )
        async with answering(settings) as edge:
            await edge.until("/v1/providers", lambda answer: answer.json()["data"][0]["health"]["status"] == "healthy")
            yield edge, vendor


async def test_every_door_takes_it_to_its_first_candidate(tmp_path: Path) -> None:
    async with shop(tmp_path) as (edge, _):
        created = await edge.client.post("/v1/jobs", json=BEST)
        job = await edge.ended(created.json()["data"]["id"])
        direct = (await edge.client.post("/v1/providers/execute", json=BEST)).json()["data"]
        estimate = (await edge.client.post("/v1/providers/estimate", json=BEST)).json()["data"]
        chat = {"model": "best", "messages": [{"role": "user", "content": "seven"}]}
        said = (await edge.client.post("/v1/chat/completions", json=chat)).json()
        task = Task(id=TaskId("t"), request=TextRequest(prompt="seven"), model=ModelId("best"))
        events = [event async for event in edge.parts.service.execute(task)]
    assert (job["status"], job["provider_id"], job["model"]) == ("completed", "openai", "gpt-4o")
    assert (direct["provider_id"], direct["model"]) == ("openai", "gpt-4o")
    assert (estimate["provider_id"], estimate["model"], estimate["cost_micro"] > 0) == ("openai", "gpt-4o", True)
    assert said["model"] == "gpt-4o"
    assert [event.model for event in events if isinstance(event, Started)] == ["gpt-4o"]


async def test_the_next_candidate_is_asked_when_the_first_refuses_and_explain_says_which_choice_it_was(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as (edge, vendor):
        vendor.plan = always(Status(404, "model_not_found"))
        job = await edge.ended((await edge.client.post("/v1/jobs", json=BEST)).json()["data"]["id"])
        routing = (await edge.client.get(f"/v1/jobs/{job['id']}/explain")).json()["data"]["routing"]
        asked = [body["model"] for body in vendor.bodies]
    assert asked == ["gpt-4o", "gpt-4o-mini"]
    assert (job["status"], job["model"]) == ("completed", "fake-text")
    first, last = routing["candidates"]
    assert first["reason"].startswith("is choice 1 of 'best', serves gpt-4o, costs about $0.0051")
    assert (last["model"], last["reason"]) == ("fake-text", "was asked when gpt-4o at openai had failed")


@pytest.mark.parametrize("bound", [{"privacy": "local_only"}, {"max_cost_usd": 0.0}, {"tier": "basic"}])
async def test_what_a_job_forbids_is_skipped(tmp_path: Path, bound: dict[str, object]) -> None:
    async with shop(tmp_path) as (edge, vendor):
        job = await edge.ended((await edge.client.post("/v1/jobs", json=BEST | bound)).json()["data"]["id"])
        assert (job["status"], job["model"]) == ("completed", "fake-text")
        assert not vendor.bodies


async def test_the_list_of_models_has_the_aliases_that_something_serves(tmp_path: Path) -> None:
    async with shop(tmp_path) as (edge, _):
        listed = (await edge.client.get("/v1/models")).json()["data"]
        one = await edge.client.get("/v1/models/best")
        off = await edge.client.post("/v1/jobs", json=BEST | {"model": "off"})
    assert {"id": "best", "object": "model", "created": 0, "owned_by": "alias"} in listed
    assert one.json()["id"] == "best"
    assert "off" not in [each["id"] for each in listed]
    assert (off.status_code, off.json()["error"]["code"]) == (404, "model_not_found")


async def test_an_unknown_candidate_stops_the_start_with_file_and_key(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[[alias]]\nid = "best"\ncandidates = ["gpt-99"]\n')
    settings = RouterSettings(port=0, grpc_port=0, data_dir=tmp_path, nodes=(), models=models)
    app = build_app(settings)
    with pytest.raises(InputInvalid, match=r"models.toml: alias 'best': candidates.*'gpt-99'"):
        async with app.router.lifespan_context(app):
            pass
