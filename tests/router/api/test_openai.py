"""The OpenAI dialect, as the official client reads it, against a running router and node."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge
from sounds import tone_wav

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = b"\x89PNG"
ASKED = [{"role": "user", "content": "one two three"}]


@pytest_asyncio.fixture(loop_scope="module")
async def client(box: Edge) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{box.url}/v1", api_key="fab_not_known_here", max_retries=0, timeout=BOUND_S
    ) as client:
        yield client


async def test_models_are_listed_and_found_by_name(client: openai.AsyncOpenAI) -> None:
    listed = {model.id: model.owned_by async for model in client.models.list()}
    assert (listed["fake-text"], listed["echo"]) == ("node", "echo")
    assert (await client.models.retrieve("fake-text")).id == "fake-text"
    with pytest.raises(openai.NotFoundError, match=r"there is no model 'org/none'"):
        await client.models.retrieve("org/none")


async def test_a_chat_is_answered(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="fake-text", messages=ASKED, temperature=0)  # type: ignore[arg-type]
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "fake-text")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one two three", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 3, 6)


async def test_a_chat_is_streamed_with_its_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="fake-text",
        messages=ASKED,  # type: ignore[arg-type]
        max_completion_tokens=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "one two"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


async def test_several_choices_come_back_in_one_answer_and_in_one_stream(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="fake-text", messages=ASKED, n=3)  # type: ignore[arg-type]
    assert [choice.message.content for choice in answer.choices] == ["one two three"] * 3
    said = {0: "", 1: ""}
    stream = await client.chat.completions.create(model="fake-text", messages=ASKED, n=2, stream=True)  # type: ignore[arg-type]
    async for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == {0: "one two three", 1: "one two three"}


async def test_text_in_parts_is_read_and_a_picture_in_a_chat_is_refused(client: openai.AsyncOpenAI) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    answer = await client.chat.completions.create(model="fake-text", messages=[{"role": "user", "content": parts}])  # type: ignore[list-item, misc]
    assert answer.choices[0].message.content == "one two"
    picture = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    with pytest.raises(openai.BadRequestError, match="chats here are text alone") as caught:
        await client.chat.completions.create(model="fake-text", messages=[{"role": "user", "content": picture}])  # type: ignore[list-item, misc]
    assert caught.value.param == "messages.0.content.0"


async def test_a_prompt_is_continued_also_as_a_stream(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="fake-text", prompt=["one two", "three"])
    assert [choice.text for choice in answer.choices] == ["one two", "three"]
    stream = await client.completions.create(model="fake-text", prompt="one two", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "one two"


async def test_vectors_are_the_same_as_base64_and_as_numbers(client: openai.AsyncOpenAI) -> None:
    texts = ["a cat", "a kitten"]
    packed = await client.embeddings.create(model="fake-embedding", input=texts)  # the client asks for base64
    plain = await client.embeddings.create(model="fake-embedding", input=texts, encoding_format="float")
    assert [row.index for row in packed.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.total_tokens == 4


async def test_pictures_come_as_data_and_behind_urls_that_need_no_key(client: openai.AsyncOpenAI, box: Edge) -> None:
    inline = await client.images.generate(model="fake-image", prompt="x", n=2, size="32x16", response_format="b64_json")
    assert inline.data is not None
    assert [base64.b64decode(image.b64_json or "")[:4] for image in inline.data] == [PNG, PNG]
    linked = await client.images.generate(model="fake-image", prompt="x")
    assert linked.data is not None
    assert (await box.client.get(linked.data[0].url or "")).content[:4] == PNG
    with pytest.raises(openai.BadRequestError, match="size: is 'large'"):
        await client.images.generate(model="fake-image", prompt="x", size="large")


async def test_a_recording_is_heard_in_every_format(client: openai.AsyncOpenAI) -> None:
    file = ("tone.wav", tone_wav(), "audio/wav")
    heard = await client.audio.transcriptions.create(model="fake-audio", file=file)
    assert heard.text
    verbose = await client.audio.transcriptions.create(model="fake-audio", file=file, response_format="verbose_json")
    assert verbose.text == heard.text
    assert verbose.segments is not None
    assert verbose.segments[-1].end <= float(verbose.duration) + 1
    plain = await client.audio.transcriptions.create(model="fake-audio", file=file, response_format="text")
    assert plain == heard.text + "\n"
    vtt = await client.audio.transcriptions.create(model="fake-audio", file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> ")


async def test_a_recording_is_translated(box: Edge) -> None:  # by hand: newer clients call this resource deprecated
    form = {"files": {"file": ("tone.wav", tone_wav(), "audio/wav")}, "data": {"model": "fake-audio"}}
    answer = await box.client.post("/v1/audio/translations", **form)  # type: ignore[arg-type]
    assert answer.json()["text"]


async def test_a_recording_is_heard_as_a_stream(client: openai.AsyncOpenAI) -> None:
    file = ("tone.wav", tone_wav(), "audio/wav")
    stream = await client.audio.transcriptions.create(model="fake-audio", file=file, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "transcript.text.done"
    assert [event.delta for event in events[:-1]] == ["second 1", " second 2"]  # the fake hears one segment a second
    assert events[-1].text == "second 1. second 2"


async def test_an_empty_recording_is_refused(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"file: 'a.wav' is empty"):
        await client.audio.transcriptions.create(model="fake-audio", file=("a.wav", b"", "audio/wav"))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"presence_penalty": 3.0}, "presence_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"extra_body": {"colour": "blue"}}, "colour"),
        ({"temperature": 3.0}, "temperature"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.AsyncOpenAI, more: dict[str, object], names: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=names) as caught:
        await client.chat.completions.create(model="fake-text", messages=ASKED, **more)  # type: ignore[call-overload]
    assert (caught.value.param, caught.value.type) == (names, "invalid_request_error")


async def test_fields_that_ask_for_nothing_are_taken(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="fake-text",
        messages=ASKED,  # type: ignore[arg-type]
        presence_penalty=0,
        logprobs=False,
        response_format={"type": "text"},
        user="somebody",
    )
    assert answer.choices[0].message.content == "one two three"


async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError, match="fake-text") as caught:
            await client.chat.completions.create(model="gpt-none", messages=ASKED, stream=stream)  # type: ignore[call-overload]
        assert caught.value.code == "model_not_found"


async def test_a_caller_that_goes_away_frees_the_seat(
    client: openai.AsyncOpenAI, box: Edge, gate: threading.Event
) -> None:
    gate.clear()
    asking = asyncio.create_task(client.chat.completions.create(model="fake-text", messages=ASKED))  # type: ignore[arg-type]
    await box.until("/v1/nodes", lambda answer: _running(answer.json()) == 1)
    asking.cancel()
    gate.set()
    await box.until("/v1/nodes", lambda answer: _running(answer.json()) == 0)


def _running(answer: dict[str, list[dict[str, list[dict[str, int]]]]]) -> int:
    return sum(model["running"] for node in answer["data"] for model in node["models"])
