"""`fabric-node providers` before a router that runs: what is on, and where a job would go."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from edge import Edge, answering, fake_node
from typer.testing import CliRunner

from protos.errors import FabricError, InputInvalid, InvalidRequest, NodeUnavailable
from providers.settings import ProviderSettings
from router.commands import app
from router.settings import RouterSettings

ALIASES = """
[[alias]]
id = "best"
candidates = ["gpt-4o", "claude-sonnet-4-5", "node/fake-text"]
"""


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Edge]:
    models = folder / "aliases.toml"
    models.write_text(ALIASES)
    async with fake_node(folder / "node") as node:
        vendors = ProviderSettings(openai_api_key="sk-standin", openai_base_url="http://127.0.0.1:9/v1")
        settings = RouterSettings(
            port=0, grpc_port=0, data_dir=folder / "router", nodes=(node.target,), models=models, vendors=vendors
        )
        async with answering(settings) as edge:
            await edge.until("/v1/providers", lambda answer: answer.json()["data"][0]["health"]["status"] == "healthy")
            yield edge


async def told(edge: Edge, *arguments: str) -> str:
    """What the command prints, its table's lines joined."""
    command = ["providers", "--url", edge.url, *arguments]
    runner = CliRunner(env={"COLUMNS": "400"})
    result = await asyncio.to_thread(runner.invoke, app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


async def test_it_shows_what_is_on_with_tier_models_price_and_health(tmp_path: Path) -> None:
    async with shop(tmp_path) as edge:
        shown = await told(edge)
    assert "node basic text, embedding, image, audio 4: fake-text, ... free healthy" in shown
    assert "openai premium" in shown
    assert "gpt-6-luna, ... $0.000306 healthy" in shown


async def test_it_tells_where_a_job_would_go_and_why(tmp_path: Path) -> None:
    job = {"modality": "text", "model": "best", "input": {"prompt": "hello"}}
    async with shop(tmp_path) as edge:
        shown = await told(edge, "--why", json.dumps(job))
        local = await told(edge, "--why", json.dumps(job), "--privacy", "local_only")
        typical = await told(edge, "--model", "best", "--max-cost", "0")
    assert "1 openai gpt-4o" in shown
    assert "is choice 1 of 'best', serves gpt-4o, costs about $0.00512" in shown
    assert "2 node fake-text" in shown
    assert "echo has no text model 'best'" in shown
    assert "anthropic is off, or does not have claude-sonnet-4-5 now" in shown
    assert "1 node fake-text" in local
    assert "openai is remote, and the request must not leave the box" in local
    assert "1 openai gpt-4o" in typical  # what a typical request comes to is no bound of this one


async def test_it_says_when_nobody_can_have_a_job(tmp_path: Path) -> None:
    async with shop(tmp_path) as edge:
        shown = await told(edge, "--model", "gpt-4o", "--privacy", "local_only")
    assert "nobody can have it: no provider serves text model 'gpt-4o' as asked for" in shown
    assert "openai is remote, and the request must not leave the box" in shown


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--why", "{"], InputInvalid, "--why: is not JSON"),
        (["--why", "[1]"], InputInvalid, "give a JSON object"),
        (["--model", "nope"], InvalidRequest, "model 'nope' is not here: name one of the text models"),
        (["--privacy", "secret"], InvalidRequest, "privacy"),
        (["--why", '{"modality":"text","input":{}}'], InvalidRequest, "prompt"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], error: type[FabricError], says: str
) -> None:
    async with shop(tmp_path) as edge:
        with pytest.raises(error) as refused:
            await told(edge, *arguments)
    assert says in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("command", ["providers", "tour"])
def test_without_a_router_it_says_how_to_start_one(command: str) -> None:
    with pytest.raises(NodeUnavailable, match="start one with `fabric-node up`"):
        CliRunner().invoke(app, [command, "--url", "http://127.0.0.1:9"], catch_exceptions=False)
