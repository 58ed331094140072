"""Penalties, log probabilities, several answers and formats as the official OpenAI client and the jobs API have them,
against the model that ships."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering

from node.daemon import Daemon
from node.engines import loader
from node.settings import NodeSettings
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[3]
ASKED: Any = [{"role": "user", "content": "Tell me a short story about a red circle."}]  # Any: the client's own types
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    folder = tmp_path_factory.mktemp("served")
    models = folder / "models.toml"
    path = ROOT / "models" / "fabric-chat"
    models.write_text(
        f'[[model]]\nid = "chat"\nengine = "text"\npath = "{path}"\ndefault = true\npreload = true\nseats = 4\n'
    )
    settings = NodeSettings(listen="127.0.0.1:0", device="cpu", models_path=models, data_dir=folder)
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(Daemon(settings, loader))
        router = RouterSettings(port=0, data_dir=folder / "router", nodes=(daemon.target,))
        edge = await stack.enter_async_context(answering(router))
        await edge.until("/readyz", lambda answer: answer.status_code == 200)
        yield edge


@pytest_asyncio.fixture(loop_scope="module")
async def client(served: Edge) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=BOUND_S
    ) as client:
        yield client


async def test_a_chat_has_its_log_probabilities_also_as_a_stream(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "chat", "messages": ASKED, "max_tokens": 12, "seed": 3, "logprobs": True, "top_logprobs": 2}
    answer = await client.chat.completions.create(**asked)
    (choice,) = answer.choices
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == choice.message.content
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    streamed: list[Any] = []
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        for piece in chunk.choices:
            streamed += piece.logprobs.content if piece.logprobs else []
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in tokens], abs=1e-3)


async def test_a_completion_says_where_its_tokens_begin(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model="chat", prompt="What is 3 plus 4?", max_tokens=8, logprobs=3, temperature=0
    )
    (choice,) = answer.choices
    found = choice.logprobs
    assert found is not None
    assert "".join(found.tokens or []) == choice.text
    assert [choice.text.index(token) for token in (found.tokens or [])[:1]] == (found.text_offset or [])[:1]
    assert len(found.top_logprobs or []) == len(found.token_logprobs or []) == len(found.tokens or [])


async def test_several_answers_read_the_prompt_once(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "chat", "messages": ASKED, "max_tokens": 40, "seed": 7, "temperature": 2.0}
    one = await client.chat.completions.create(**asked)
    three = await client.chat.completions.create(**asked, n=3)
    texts = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert texts[0] == one.choices[0].message.content
    assert len(set(texts)) > 1  # it was taught to tell this story
    assert one.usage is not None
    assert three.usage is not None
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    said, ends = {0: "", 1: "", 2: ""}, set()
    async for chunk in await client.chat.completions.create(**asked, n=3, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ends |= {choice.index} if choice.finish_reason else set()
    assert list(said.values()) == texts
    assert ends == {0, 1, 2}


async def test_more_answers_than_the_model_has_seats_are_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n: is 5, and the model has 4 seats"):
        await client.chat.completions.create(model="chat", messages=ASKED, n=5)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_keeps_to_a_json_schema(client: openai.AsyncOpenAI, stream: bool) -> None:
    asked: Any = {"model": "chat", "messages": ASKED, "max_tokens": 200, "seed": 1, "response_format": FORMAT}
    if stream:
        chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        reason = chunks[-1].choices[0].finish_reason
    else:
        choice = (await client.chat.completions.create(**asked)).choices[0]
        text, reason = choice.message.content or "", choice.finish_reason
    assert reason == "stop"
    jsonschema.validate(json.loads(text), SCHEMA)


async def test_a_schema_that_cannot_be_kept_to_is_refused_with_its_reason(client: openai.AsyncOpenAI) -> None:
    unable: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "array", "uniqueItems": True}},
    }
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as caught:
        await client.chat.completions.create(model="chat", messages=ASKED, response_format=unable)
    assert caught.value.param == "response_format"


async def test_top_logprobs_without_logprobs_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="send logprobs true beside it"):
        await client.chat.completions.create(model="chat", messages=ASKED, top_logprobs=2)


@pytest.mark.parametrize(
    ("response_format", "pattern"),
    [
        ({"type": "regex", "regex": "(red|blue){1,3}"}, "(red|blue){1,3}"),
        ({"type": "grammar", "grammar": 'start: "yes" | "no"'}, "yes|no"),
    ],
)
async def test_a_job_keeps_to_its_format_and_has_all_its_answers(
    served: Edge, response_format: dict[str, str], pattern: str
) -> None:
    params = {"n": 2, "logprobs": 1, "max_tokens": 40, "seed": 2, "response_format": response_format}
    body = {"modality": "text", "input": {"prompt": "Which?"}, "params": params}
    created = await served.client.post("/v1/jobs", json=body)
    job: Any = await served.ended(created.json()["data"]["id"])
    assert job["status"] == "completed"
    output = job["output"]
    assert [choice["index"] for choice in output["choices"]] == [0, 1]
    for choice in output["choices"]:
        assert re.fullmatch(pattern, choice["text"])
        assert "".join(token["token"] for token in choice["logprobs"]) == choice["text"]
    assert output["text"] == output["choices"][0]["text"]


async def test_a_direct_stream_says_whose_text_it_is(served: Edge) -> None:
    body = {"modality": "text", "input": {"prompt": "Which?"}, "params": {"n": 2, "max_tokens": 6, "seed": 2}}
    said, result = {0: "", 1: ""}, {}
    async with served.client.stream("POST", "/v1/providers/execute/stream", json=body) as answer:
        kind = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "output":
                piece = json.loads(line.removeprefix("data: "))
                said[piece.get("index", 0)] += piece["text"]
            elif line.startswith("data: ") and kind == "completed":
                result = json.loads(line.removeprefix("data: "))
    assert [choice["text"] for choice in result["output"]["choices"]] == list(said.values())
