"""Our own second router as any OpenAI-compatible server: what one router serves in OpenAI's dialect another sends there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from edge import Edge, answering, fake_node

from providers.settings import CompatibleServer, ProviderSettings
from router.settings import RouterSettings


@asynccontextmanager
async def two_routers(folder: Path) -> AsyncIterator[Edge]:
    """The first one, which has no node; the second has one."""
    async with fake_node(folder / "node") as node:
        second = RouterSettings(port=0, grpc_port=0, data_dir=folder / "second", nodes=(node.target,))
        async with answering(second) as away:
            await away.until("/v1/models", lambda answer: "fake-text" in answer.text)
            vendors = ProviderSettings(
                compatible=(CompatibleServer(name="attic", url=f"{away.url}/v1", is_local=True),)
            )
            first = RouterSettings(port=0, grpc_port=0, data_dir=folder / "first", nodes=(), vendors=vendors)
            async with answering(first) as edge:
                await edge.until("/v1/providers", lambda answer: "fake-text" in answer.text)
                yield edge


@pytest.mark.parametrize(
    ("modality", "model", "asked", "params"),
    [
        ("text", "fake-text", {"prompt": "one two three"}, {"max_tokens": 16}),
        ("embedding", "fake-embedding", {"texts": ["one", "two"]}, {}),
    ],
)
async def test_a_job_is_done_by_the_other_router(
    tmp_path: Path, modality: str, model: str, asked: dict[str, Any], params: dict[str, int]
) -> None:
    async with two_routers(tmp_path) as edge:
        body = {"modality": modality, "model": model, "input": asked, "params": params}
        created = await edge.client.post("/v1/jobs", json=body)
        assert created.status_code == 202, created.text
        job = await edge.ended(created.json()["data"]["id"])
    assert (job["status"], job["provider_id"], job["model"]) == ("completed", "attic", model), job["error"]


async def test_text_is_streamed_through_both(tmp_path: Path) -> None:
    async with two_routers(tmp_path) as edge:
        messages = [{"role": "user", "content": "one two three"}]
        body = {"model": "fake-text", "messages": messages, "stream": True, "max_tokens": 16}
        answer = await edge.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert '"content": "' in answer.text
    assert answer.text.rstrip().endswith("data: [DONE]")


async def test_what_the_other_router_refuses_is_told_as_it_says_it(tmp_path: Path) -> None:
    async with two_routers(tmp_path) as edge:
        body = {"modality": "text", "model": "fake-text", "input": {"prompt": "word " * 500_000}}
        answer = await edge.client.post("/v1/providers/execute", json=body)
    assert answer.status_code in (400, 413)
