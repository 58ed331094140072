"""`fabric-node up` with other places switched on by their variables, as the README has it: aliases of models.toml, the gRPC
door, what is shown, and that no vendor's key is in anything that the processes wrote or said."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from vendors.faults import Status
from vendors.ollama_app import Model, OllamaStandIn
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from box import ROOT, Box, running
from protos.fabric.node.v1 import node_pb2 as pb
from protos.fabric.node.v1.node_pb2_grpc import NodeStub

KEY, SERVER_KEY, OWN_KEY = "sk-proj-Zk3Qm8Wd5Rt7Yp2L", "no-usual-look-Hx6Cv9Bn4", "sk-own-Ga1Sd2Fg3Hj4Kl5"
MODELS = """
[[model]]
id = "tiny"
engine = "fake"
modality = "text"
default = true
preload = true

[[alias]]
id = "small"
candidates = ["tiny", "ollama/llama3.2", "gpt-4o-mini"]

[[alias]]
id = "best"
candidates = ["gpt-4o", "vllm/qwen3", "tiny"]
"""
BOUND_S = 120.0


@dataclass
class World:
    box: Box
    client: httpx.AsyncClient
    openai: OpenAIStandIn
    heard: list[str] = field(default_factory=list)  # every answer that a client got

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # Any: JSON
        answer = await self.client.request(method, path, json=body)
        self.heard.append(answer.text)
        return answer.json()

    async def ended(self, **body: object) -> Any:  # Any: JSON
        created = await self.ask("POST", "/v1/jobs", {"modality": "text", "input": {"prompt": "one two"}, **body})
        path = f"/v1/jobs/{created['data']['id']}"
        self.heard.append((await self.client.get(f"{path}/events")).text)  # ends after the terminal event
        return (await self.ask("GET", path))["data"]

    async def shown(self, *options: str) -> str:
        """What `fabric-node providers` prints; the other places, which are in this process, answer meanwhile."""
        command = [sys.executable, "-m", "router.cli", "providers", "--url", self.box.url, *options]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={"COLUMNS": "150"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said, complained = [each.decode() for each in await process.communicate()]
        assert process.returncode == 0, complained
        self.heard += [said, complained]
        return said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("away")
    (folder / "models.toml").write_text(MODELS)
    openai = OpenAIStandIn(paces_s={"gpt-4.1": 0.05})
    vllm = OpenAIStandIn(models=("qwen3",), key=SERVER_KEY)
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(it.app())) for it in (openai, vllm)]
        urls.append(await stack.enter_async_context(serving(OllamaStandIn({"llama3.2": Model()}).app())))
        box = await stack.enter_async_context(
            running(
                folder / "data",
                folder / "models.toml",
                OPENAI_API_KEY=KEY,
                OPENAI_BASE_URL=f"{urls[0]}/v1",
                FABRIC_COMPATIBLE=f"vllm={urls[1]}/v1",
                FABRIC_COMPATIBLE_VLLM_KEY=SERVER_KEY,
                OLLAMA_URL=urls[2],
            )
        )
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=box.url, timeout=BOUND_S))
        it = World(box, client, openai)
        async with asyncio.timeout(BOUND_S):
            while not {"llama3.2", "qwen3", "tiny"} <= _names(await it.ask("GET", "/v1/providers")):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # processes of their own: there is nothing else to wait on
        yield it


def _names(answer: Any) -> set[str]:  # Any: JSON
    return {model for place in answer["data"] for model in place["models"]}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(("alias", "place", "model"), [("small", "node", "tiny"), ("best", "openai", "gpt-4o")])
async def test_an_alias_goes_to_its_first_candidate_of_any_tier(
    world: World, alias: str, place: str, model: str
) -> None:
    job = await world.ended(model=alias)
    assert (job["status"], job["provider_id"], job["model"]) == ("completed", place, model)
    routing = (await world.ask("GET", f"/v1/jobs/{job['id']}/explain"))["data"]["routing"]
    assert routing["candidates"][0]["reason"].startswith(f"is choice 1 of {alias!r}, serves {model}")


async def test_an_alias_goes_on_to_its_next_candidate_when_the_first_fails(world: World) -> None:
    world.openai.plan = lambda: Status(503, "overloaded", f"we saw {KEY} too often")
    try:
        job = await world.ended(model="best")
    finally:
        world.openai.plan = lambda: None
    assert (job["status"], job["provider_id"], job["model"]) == ("completed", "vllm", "qwen3")
    told = (await world.ask("GET", "/v1/audit-logs"))["data"]
    left = [each["detail"] for each in told if each["resource_id"] == job["id"]]
    assert [detail.split(" serves")[0] for detail in reversed(left)] == [
        "leaves the box: openai is choice 1 of 'best',",
        "leaves the box: vllm is choice 2 of 'best',",
    ]


async def test_an_alias_stays_on_the_box_when_it_must(world: World) -> None:
    job = await world.ended(model="best", privacy="local_only")
    assert (job["provider_id"], job["model"]) == ("node", "tiny")


@pytest.mark.parametrize("asked", [{"tier": "premium"}, {"model": "gpt-4o-mini"}, {"model": "best"}], ids=str)
async def test_the_grpc_door_routes_streams_and_meters_as_a_job_is(world: World, asked: dict[str, str]) -> None:
    async with grpc.aio.insecure_channel(world.box.grpc) as channel, asyncio.timeout(BOUND_S):
        task = pb.Task(id=f"task-{asked}", text=pb.TextRequest(prompt="one two three"), organization_id="acme", **asked)
        events = [event async for event in NodeStub(channel).Execute(task)]  # type: ignore[no-untyped-call]
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1], "output" in kinds) == ("queued", "finished", True)
    assert events[-1].finished.text.text == "one two three"
    assert events[-1].finished.usage.output_tokens == 3
    async with asyncio.timeout(BOUND_S):
        while not (records := (await world.ask("GET", "/v1/organizations/acme/usage/records"))["data"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # what a direct call cost is written behind it
    assert records[0]["cost_micro"] > 0


async def test_a_task_of_the_grpc_door_is_cancelled_at_the_vendor(world: World) -> None:
    async with grpc.aio.insecure_channel(world.box.grpc) as channel, asyncio.timeout(BOUND_S):
        stub = NodeStub(channel)  # type: ignore[no-untyped-call]
        task = pb.Task(id="long", model="gpt-4.1", text=pb.TextRequest(prompt="word " * 400, max_tokens=400))
        call = stub.Execute(task)
        async for event in call:
            if event.WhichOneof("event") == "output":
                break
        await stub.Cancel(pb.CancelRequest(task_id="long"))
        assert await call.code() is grpc.StatusCode.CANCELLED
    assert not next(each for each in world.openai.book.entries if each.model == "gpt-4.1").is_told


async def test_providers_shows_at_a_glance_what_is_on_how_it_is_what_it_costs_and_why(world: World) -> None:
    glance = await world.shown()
    for place, told in {"openai": "$0.000", "ollama": "free", "node": "free", "vllm": "not known"}.items():
        row = next(line for line in glance.splitlines() if line.strip().startswith(place))
        assert told in row
        assert "healthy" in row or "degraded" in row
    why = await world.shown("--model", "best", "--privacy", "local_only")
    assert "is choice 3 of 'best'" in why
    assert "is remote, and the request must not leave the box" in why


async def test_no_key_is_in_anything_that_was_written_or_said(world: World) -> None:
    """The last one: of all that came before."""
    secret = {"name": "OPENAI_API_KEY", "value": OWN_KEY}
    await world.ask("POST", "/v1/organizations/acme/secrets", secret)
    await world.ask("GET", "/v1/organizations/acme/secrets")
    world.openai.key = "another"  # refuses ours, in words that repeat it
    job = await world.ended(model="gpt-4o-mini", organization_id="acme")
    world.openai.key = ""
    assert job["status"] == "failed"
    assert world.openai.headers[-1]["authorization"] == f"Bearer {OWN_KEY}"
    for path in ("/v1/providers", "/v1/system/info", "/v1/audit-logs", "/v1/organizations/acme/usage/records"):
        await world.ask("GET", path)
    world.heard.append((await world.client.get("/metrics")).text)
    await world.box.stop()
    files = [path for path in world.box.data.rglob("*") if path.is_file()]
    assert {".db", ".log"} <= {path.suffix for path in files}
    written = b"\n".join([*(path.read_bytes() for path in files), json.dumps(world.heard).encode()])
    for key in (KEY, SERVER_KEY, OWN_KEY):
        assert key.encode() not in written
        assert key[-10:].encode() not in written
