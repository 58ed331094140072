"""A job marked local_only never leaves the box, whatever fails and by whatever door it came; and explain says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from edge import Edge, answering, fake_node
from vendors.ollama_app import Model, OllamaStandIn
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from protos.errors import FabricError
from protos.types import ModelId, Task, TaskId, TextRequest
from providers.settings import CompatibleServer, ProviderSettings
from router.settings import RouterSettings

LOCAL = {"modality": "text", "input": {"prompt": "our secret"}, "privacy": "local_only"}
ALIASES = '[[alias]]\nid = "best"\ncandidates = ["gpt-4o", "vllm/llama", "ollama/cloud", "node/fake-text"]\n'
AWAY = ("openai", "vllm")
REASON = "is remote, and the request must not leave the box"


@dataclass(frozen=True)
class Box:
    """A router, its node, and what is beyond the box. `heard`: the bodies that came there."""

    edge: Edge
    nodes: AsyncExitStack
    heard: Callable[[], list[dict[str, Any]]]  # Any: JSON

    async def stop_node(self) -> None:
        await self.nodes.aclose()
        await self.edge.until("/v1/providers", _node_is_down)

    async def audited(self, resource_id: str) -> list[dict[str, Any]]:  # Any: JSON
        answer = await self.edge.client.get("/v1/audit-logs")
        return [each for each in answer.json()["data"] if each["resource_id"] == resource_id]

    async def explained(self, job_id: str) -> dict[str, Any]:  # Any: JSON
        answer = await self.edge.client.get(f"/v1/jobs/{job_id}/explain")
        return answer.json()["data"]  # type: ignore[no-any-return]


@asynccontextmanager
async def a_box(folder: Path) -> AsyncIterator[Box]:
    """Ollama runs on the box; its model is one of its cloud, which sends on what it gets."""
    models = folder / "aliases.toml"
    models.write_text(ALIASES)
    openai, vllm = OpenAIStandIn(), OpenAIStandIn(models=("llama",))
    ollama = OllamaStandIn({"cloud": Model(remote_host="https://ollama.com")})
    async with (
        AsyncExitStack() as nodes,
        serving(openai.app()) as openai_url,
        serving(vllm.app()) as vllm_url,
        serving(ollama.app()) as ollama_url,
    ):
        node = await nodes.enter_async_context(fake_node(folder / "node"))
        vendors = ProviderSettings(
            openai_api_key="sk-standin",
            openai_base_url=f"{openai_url}/v1",
            compatible=(CompatibleServer(name="vllm", url=f"{vllm_url}/v1"),),
            ollama_url=ollama_url,
        )
        settings = RouterSettings(
            port=0, grpc_port=0, data_dir=folder / "router", nodes=(node.target,), models=models, vendors=vendors
        )
        async with answering(settings) as edge:
            await edge.until("/v1/providers", _all_are_seen)  # a job for one that is not seen yet would wait for it
            yield Box(edge, nodes, lambda: [b for v in (openai, vllm, ollama) for b in v.bodies if b])


async def a_job(it: Box, **more: object) -> dict[str, Any]:  # Any: JSON
    """Created, and as it is when it has ended."""
    created = await it.edge.client.post("/v1/jobs", json=LOCAL | more)
    assert created.status_code == 202, created.text
    return dict(await it.edge.ended(created.json()["data"]["id"]))


@pytest.mark.parametrize("more", [{}, {"model": "best"}, {"deadline_s": 0.5}, {"model": "best", "deadline_s": 0.5}])
async def test_a_job_is_done_on_the_box_and_explain_says_why_nowhere_else(tmp_path: Path, more: dict[str, Any]) -> None:
    async with a_box(tmp_path) as it:
        job = await a_job(it, **more)
        skipped = (await it.explained(job["id"]))["routing"]["skipped"]
        audited = await it.audited(job["id"])
        assert not it.heard()
    assert job["provider_id"] in ("node", None)  # None: its deadline passed on a busy machine before it began
    told = {each["provider_id"]: each["reason"] for each in skipped}
    assert [told.get(place) for place in AWAY] == [REASON] * 2 or job["status"] == "failed"
    if job["status"] == "completed":
        assert [(each["action"], each["outcome"]) for each in audited] == [("job.route", "success")]
        assert "local_only stays on the box: node " in audited[0]["detail"]
        assert audited[0]["detail"].endswith("not asked, as they are remote: vllm, openai")


async def test_a_job_is_refused_rather_than_go_away_when_the_box_cannot(tmp_path: Path) -> None:
    async with a_box(tmp_path) as it:
        prompt = {"input": {"prompt": "word " * 5000}}  # longer than the node's model reads
        refused = await it.edge.client.post("/v1/jobs", json=LOCAL | prompt | {"model": "best"})
        assert not it.heard()
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "input_validation_failed")


@pytest.mark.parametrize("model", [None, "best"])
async def test_a_job_waits_rather_than_go_away_while_the_box_is_down(tmp_path: Path, model: str | None) -> None:
    async with a_box(tmp_path) as it:
        await it.stop_node()
        created = await it.edge.client.post("/v1/jobs", json=LOCAL | {"model": model})
        job_id = created.json()["data"]["id"]
        looks = [await it.explained(job_id) for _ in range(20)]  # of the router too meanwhile: what it waits for stays
        explained = looks[-1]
        direct = await it.edge.client.post("/v1/providers/execute", json=LOCAL | {"model": model})
        stream = await it.edge.client.post("/v1/providers/execute/stream", json=LOCAL | {"model": model})
        status = (await it.edge.client.get(f"/v1/jobs/{job_id}")).json()["data"]["status"]
        audited = await it.audited(job_id)
        assert not it.heard()
    assert [each["outcome"] for each in audited] == ["denied"]
    assert status == "pending"
    assert {each["held_by"]["code"] for each in looks} == {"no_provider"}
    assert {"provider_id": "openai", "reason": REASON} in explained["routing"]["skipped"]
    assert [direct.status_code, stream.status_code] == [503, 503]
    assert {"provider_id": "openai", "reason": REASON} in direct.json()["error"]["details"]["skipped"]


def _all_are_seen(answer: Any) -> bool:  # Any: a response
    seen = all(each["health"]["status"] != "unavailable" for each in answer.json()["data"])
    return seen and "llama" in answer.text and "fake-text" in answer.text


def _node_is_down(answer: Any) -> bool:  # Any: a response
    return bool(answer.json()["data"][0]["health"]["status"] == "unavailable")


@pytest.mark.parametrize("bound", [{"model": "gpt-4o"}, {"model": "llama"}, {"model": "cloud"}, {"tier": "premium"}])
async def test_what_only_others_have_is_refused_at_every_door(tmp_path: Path, bound: dict[str, str]) -> None:
    async with a_box(tmp_path) as it:
        paths = ("/v1/jobs", "/v1/providers/execute", "/v1/providers/execute/stream")
        answers = [await it.edge.client.post(path, json=LOCAL | bound) for path in paths]
        shown = await it.edge.client.post("/v1/providers/route", json=LOCAL | bound)
        assert not it.heard()
    assert {answer.status_code for answer in answers} <= {503, 404}
    assert shown.status_code == 404 or shown.json()["data"]["candidates"] == []


def _execute(it: Box, model: str | None) -> Coroutine[Any, Any, list[str]]:  # Any: as coroutines are typed
    async def kinds() -> list[str]:
        task = Task(
            id=TaskId("t"), request=TextRequest(prompt="our secret"), model=ModelId(model) if model else None,
            privacy="local_only",
        )  # fmt: skip
        return [type(event).__name__ async for event in it.edge.parts.service.execute(task)]

    return kinds()


async def test_a_task_of_the_grpc_door_stays_too(tmp_path: Path) -> None:
    async with a_box(tmp_path) as it, asyncio.timeout(60):
        assert "Finished" in await _execute(it, "best")
        with pytest.raises(FabricError, match="must not leave the box"):
            await _execute(it, "gpt-4o")
        await it.stop_node()
        with pytest.raises(FabricError, match="must not leave the box"):
            await _execute(it, "best")
        assert not it.heard()
