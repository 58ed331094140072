"""Ollama before its stand-in on a real socket: what it is sent, what it answers, and what can go wrong."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from door import Bell
from vendors.faults import Cut, Ends, FailsWithin, Garbage, Hang, Stall, Status, first
from vendors.ollama_app import Model, OllamaStandIn
from vendors.serving import serving

from box import free_port
from protos.errors import (
    Cancelled,
    Code,
    FabricError,
    InputInvalid,
    ModelNotFound,
    NodeUnavailable,
    Overloaded,
    PayloadTooLarge,
    VendorRefused,
)
from protos.types import (
    EmbeddingRequest,
    EmbeddingResult,
    Finished,
    ImageRequest,
    Message,
    Modality,
    ModelId,
    Queued,
    ResponseFormat,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextDelta,
    TextRequest,
    TextResult,
    Tier,
)
from providers.ollama import ollama_provider
from providers.watched import Pace, Watched

QUICK = Pace(healthy_s=0.05, failing_s=(0.02,))
CHAT, EMBED = "llama3.2:3b", "nomic-embed-text:latest"
BOUND_S = 60.0


@dataclass(frozen=True)
class Place:
    provider: Watched
    vendor: OllamaStandIn
    bell: Bell

    async def run(self, request: Any, **more: Any) -> list[TaskEvent]:  # Any: any request, fields of a task
        async with asyncio.timeout(BOUND_S):
            return [event async for event in self.provider.run(a_task(request, **more))]

    async def refusal(self, request: Any) -> FabricError:  # Any: any request
        with pytest.raises(FabricError) as caught:
            await self.run(request)
        return caught.value

    async def until_offered(self, *models: str) -> None:
        await self.bell.until(lambda seen: {offer.model for offer in seen.offers} == set(models), self.provider)


def a_task(request: Any, **more: Any) -> Task:  # Any: any request, fields of a task
    return Task(id=TaskId("t"), request=request, **more)


@asynccontextmanager
async def standing(vendor: OllamaStandIn, *pull: str) -> AsyncIterator[Place]:
    async with serving(vendor.app()) as url:
        bell = Bell()
        provider = ollama_provider(url, pull, bell, pace=QUICK)
        await provider.start()
        try:
            await bell.until_healthy(provider)
            yield Place(provider, vendor, bell)
        finally:
            await provider.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    models = {CHAT: Model(), EMBED: Model(capabilities=("embedding",), family="nomic-bert", context_length=2048)}
    async with standing(OllamaStandIn(models)) as standing_place:
        yield standing_place


TEXT = TextRequest(prompt="one two three")
TEXTS = EmbeddingRequest(texts=("a cat", "a dog"))


# ---- what it has ----


async def test_it_offers_what_the_server_has_with_contexts_and_defaults(place: Place) -> None:
    snapshot = place.provider.snapshot()
    assert (snapshot.tier, snapshot.kind, snapshot.is_remote) == (Tier.BASIC, "ollama", False)
    assert {(o.model, o.modality, o.is_default, o.context_tokens) for o in snapshot.offers} == {
        (CHAT, Modality.TEXT, True, 131_072),
        (EMBED, Modality.EMBEDDING, True, 2048),
        ("nomic-embed-text", Modality.EMBEDDING, False, 2048),  # the tag `latest` goes without saying
    }
    assert all(offer.price is None for offer in snapshot.offers)  # free


async def test_models_that_come_and_go_are_seen(place: Place) -> None:
    place.vendor.models["phi4:latest"] = Model()
    await place.until_offered(CHAT, EMBED, "nomic-embed-text", "phi4:latest", "phi4")
    place.vendor.models.pop(EMBED)
    await place.until_offered(CHAT, "phi4:latest", "phi4")


async def test_a_server_that_stops_answering_is_unavailable_until_it_answers(place: Place) -> None:
    place.vendor.is_down = True
    await place.bell.until(lambda seen: seen.health.status == "unavailable", place.provider)
    assert "server is starting" in place.provider.snapshot().health.reason
    place.vendor.is_down = False
    await place.bell.until_healthy(place.provider)


async def test_a_server_that_is_not_there_is_unavailable_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    bell = Bell()
    provider = ollama_provider(url, (), bell, pace=QUICK)
    await provider.start()
    try:
        await bell.until(lambda seen: "cannot be reached" in seen.health.reason, provider)
        snapshot = provider.snapshot()
        assert (snapshot.health.status, snapshot.offers) == ("unavailable", ())
        assert url in snapshot.health.reason
    finally:
        await provider.close()


async def test_a_cloud_model_is_not_offered_as_it_runs_elsewhere() -> None:
    models = {"gpt-oss:120b-cloud": Model(remote_host="https://ollama.com"), CHAT: Model()}
    async with standing(OllamaStandIn(models)) as place:
        assert [offer.model for offer in place.provider.snapshot().offers] == [CHAT]


async def test_a_server_that_tells_no_capabilities_is_judged_by_the_family() -> None:
    models = {"old-bert": Model(capabilities=None, family="bert"), "old": Model(capabilities=None)}
    async with standing(OllamaStandIn(models)) as place:
        offered = {(offer.model, offer.modality) for offer in place.provider.snapshot().offers}
    assert offered == {("old-bert", Modality.EMBEDDING), ("old", Modality.TEXT)}


async def test_a_server_elsewhere_is_remote() -> None:
    assert ollama_provider("http://gpu.lan:11434", (), Bell()).snapshot().is_remote


async def test_nothing_is_pulled_unasked(place: Place) -> None:
    await place.run(TEXT)
    with pytest.raises(ModelNotFound):
        await place.run(TEXT, model=ModelId("phi4"))
    assert place.vendor.pulled == []


async def test_what_the_settings_name_is_pulled_where_it_lacks() -> None:
    vendor = OllamaStandIn({CHAT: Model()}, library={"phi4": Model()})
    async with standing(vendor, CHAT, "phi4", "no-such") as place:
        await place.until_offered(CHAT, "phi4:latest", "phi4")
        assert sorted(vendor.pulled) == ["no-such", "phi4"]  # each once, though it is looked at again and again


# ---- text ----


async def test_a_prompt_is_streamed_with_the_usage_that_it_reports(place: Place) -> None:
    queued, started, *deltas, finished = await place.run(TEXT)
    assert (queued, started) == (Queued(0), Started(started.node_id, ModelId(CHAT)))  # type: ignore[union-attr]
    assert deltas == [TextDelta("one"), TextDelta(" two"), TextDelta(" three")]
    assert isinstance(finished, Finished)
    assert finished.result == TextResult("one two three", "stop")
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (3, 3)


async def test_every_param_is_sent_under_its_name(place: Place) -> None:
    request = TextRequest(
        prompt="hi",
        temperature=0.5,
        top_p=0.8,
        top_k=7,
        min_p=0.1,
        max_tokens=9,
        stop=("END",),
        seed=11,
        repetition_penalty=1.2,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
    )
    await place.run(request)
    assert place.vendor.bodies[-1]["options"] == {
        "temperature": 0.5,
        "top_p": 0.8,
        "top_k": 7,
        "min_p": 0.1,
        "num_predict": 9,
        "stop": ["END"],
        "seed": 11,
        "repeat_penalty": 1.2,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
    }
    assert "keep_alive" not in place.vendor.bodies[-1]  # how long a model stays is Ollama's to say


async def test_a_request_without_params_gets_our_defaults_not_its(place: Place) -> None:
    await place.run(TEXT)
    assert place.vendor.bodies[-1]["options"] == {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "num_predict": 512,
        "repeat_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
    }


async def test_a_format_is_sent_as_its_word_or_its_schema(place: Place) -> None:
    await place.run(TextRequest(prompt="hi", response_format=ResponseFormat("json_object")))
    assert place.vendor.bodies[-1]["format"] == "json"
    schema = ResponseFormat("json_schema", '{"type": "object"}')
    await place.run(TextRequest(messages=(Message("user", "hi"),), response_format=schema))
    assert place.vendor.bodies[-1]["format"] == {"type": "object"}


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (TextRequest(prompt="hi", logprobs=0), "params.logprobs"),
        (TextRequest(prompt="hi", n=2), "params.n"),
        (TextRequest(prompt="hi", response_format=ResponseFormat("regex", "a+")), "params.response_format"),
    ],
)
async def test_what_its_wire_has_no_word_for_is_refused_by_name(place: Place, asked: TextRequest, path: str) -> None:
    with pytest.raises(InputInvalid, match=path):
        await place.run(asked)


async def test_messages_are_a_chat_and_max_tokens_is_said_to_have_cut(place: Place) -> None:
    messages = (Message("system", "be brief"), Message("user", "one two three"))
    *_, finished = await place.run(TextRequest(messages=messages, max_tokens=2))
    assert isinstance(finished, Finished)
    assert finished.result == TextResult("one two", "length")
    assert finished.usage.input_tokens == 5
    assert place.vendor.bodies[-1]["messages"][0] == {"role": "system", "content": "be brief"}


async def test_what_it_thinks_is_not_its_answer(place: Place) -> None:
    place.vendor.thinks = True
    *_, finished = await place.run(TEXT)
    assert isinstance(finished, Finished)
    assert finished.result == TextResult("one two three", "stop")


async def test_a_prompt_that_it_does_not_count_is_counted_here(place: Place) -> None:
    place.vendor.counts_prompts = False
    *_, finished = await place.run(TEXT)
    assert isinstance(finished, Finished)
    assert finished.usage.input_tokens == 3


# ---- vectors ----


async def test_vectors_are_of_unit_length_and_a_long_text_is_refused_not_cut(place: Place) -> None:
    *_, finished = await place.run(TEXTS)
    assert isinstance(finished, Finished)
    assert isinstance(finished.result, EmbeddingResult)
    assert finished.result.dimensions == 16
    assert math.hypot(*struct.unpack("<16f", finished.result.vectors[:64])) == pytest.approx(1, abs=1e-6)
    assert finished.usage.input_tokens == 4
    error = await place.refusal(EmbeddingRequest(texts=("word " * 20,)))
    assert isinstance(error, InputInvalid)
    assert "exceeds maximum context length" in error.message


async def test_dimensions_are_asked_for_and_checked() -> None:
    models = {"new": Model(capabilities=("embedding",)), "old": Model(("embedding",), honours_dimensions=False)}
    async with standing(OllamaStandIn(models)) as place:
        *_, finished = await place.run(EmbeddingRequest(texts=("a",), dimensions=8), model=ModelId("new"))
        assert isinstance(finished, Finished)
        assert isinstance(finished.result, EmbeddingResult)
        assert finished.result.dimensions == 8
        with pytest.raises(InputInvalid, match=r"params\.dimensions: is 8, and old gave 16"):
            await place.run(EmbeddingRequest(texts=("a",), dimensions=8), model=ModelId("old"))


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (TextRequest(prompt=""), "input.prompt"),
        (EmbeddingRequest(texts=()), "input.texts"),
        (EmbeddingRequest(texts=("a", "")), "input.texts[1]"),
        (EmbeddingRequest(texts=("a",), normalize=False), "params.normalize"),
        (EmbeddingRequest(texts=("a",), prompt_name="query"), "params.prompt_name"),
    ],
    ids=["no prompt", "no texts", "an empty text", "not normalized", "prompt_name"],
)
async def test_what_it_cannot_take_is_refused_by_name_before_it_is_sent(place: Place, request_: Any, path: str) -> None:
    error = await place.refusal(request_)
    assert isinstance(error, InputInvalid)
    assert path in [each["path"] for each in error.details["errors"]]  # type: ignore[union-attr]  # a list of dicts
    with pytest.raises(InputInvalid):
        await place.provider.estimate(a_task(request_))
    assert place.vendor.bodies == []


async def test_another_modality_is_not_its(place: Place) -> None:
    with pytest.raises(ModelNotFound, match="no image model"):
        await place.run(ImageRequest(prompt="red"))


# ---- what goes wrong ----

STATUSES = [
    (400, InputInvalid, False),
    (401, VendorRefused, True),
    (403, VendorRefused, True),
    (404, ModelNotFound, False),
    (408, NodeUnavailable, True),
    (409, NodeUnavailable, True),
    (413, PayloadTooLarge, False),
    (429, Overloaded, True),
    (500, NodeUnavailable, True),
    (503, NodeUnavailable, True),
    (529, Overloaded, True),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES, ids=[str(status) for status, *_ in STATUSES])
@pytest.mark.parametrize("request_", [TEXT, TEXTS], ids=["text", "embedding"])
async def test_a_status_is_the_error_that_it_means(
    place: Place, request_: Any, status: int, kind: type[FabricError], retryable: bool
) -> None:
    place.vendor.plan = first(Status(status, said="what ollama said"))
    error = await place.refusal(request_)
    assert type(error) is kind
    assert error.retryable is retryable
    if kind is not VendorRefused:  # whose reason may repeat a key
        assert "what ollama said" in error.message
    assert isinstance((await place.run(request_))[-1], Finished)  # the next call is not spoiled by it


async def test_retry_after_is_passed_on(place: Place) -> None:
    place.vendor.plan = first(Status(429, headers={"Retry-After": "7"}), Status(503, headers={"Retry-After": "9"}))
    assert (await place.refusal(TEXT)).retry_after_s == 7
    assert (await place.refusal(TEXTS)).retry_after_s == 9


@pytest.mark.parametrize(
    "fault",
    [Cut(0), Cut(2), Ends(1), Garbage('{"response": ', 1), Garbage("[1]", 1), FailsWithin(said="out of memory")],
    ids=["cut at the head", "cut", "ends early", "half a line", "another shape", "fails within"],
)
async def test_a_stream_that_breaks_is_a_failure_not_a_short_answer(place: Place, fault: Any) -> None:
    place.vendor.plan = first(fault)
    error = await place.refusal(TEXT)
    assert type(error) is NodeUnavailable
    assert error.may_have_run
    assert isinstance((await place.run(TEXT))[-1], Finished)


async def test_what_it_says_within_a_stream_is_told(place: Place) -> None:
    place.vendor.plan = first(FailsWithin(said="an error was encountered while running the model: CUDA out of memory"))
    assert "CUDA out of memory" in (await place.refusal(TEXT)).message


@pytest.mark.parametrize("fault", [Cut(), Garbage("<html>"), Garbage('{"embeddings": [[1], [1, 2]]}'), Garbage("{}")])
async def test_vectors_that_cannot_be_read_are_a_failure(place: Place, fault: Any) -> None:
    place.vendor.plan = first(fault)
    assert type(await place.refusal(TEXTS)) is NodeUnavailable


async def test_a_cancel_reaches_a_call_that_waits_for_its_head(place: Place) -> None:
    until = asyncio.Event()
    place.vendor.plan = first(Hang(until))
    running = asyncio.create_task(place.refusal(TEXT))
    async with asyncio.timeout(BOUND_S):
        await place.vendor.arrived.wait()
        await place.provider.cancel(TaskId("t"))
        assert isinstance(await running, Cancelled)
    until.set()


async def test_a_caller_that_goes_away_ends_the_answer_at_the_server(place: Place) -> None:
    place.vendor.plan = first(Stall(asyncio.Event()))
    events = place.provider.run(a_task(TEXT))
    async with asyncio.timeout(BOUND_S):
        while not isinstance(await anext(events), TextDelta):
            pass
        await events.aclose()  # type: ignore[attr-defined]  # a generator
        await place.vendor.left.wait()


async def test_an_unreachable_server_says_so_and_nothing_was_run() -> None:
    vendor = OllamaStandIn({CHAT: Model()})
    async with standing(vendor) as place:
        pass
    await place.provider.start()
    try:
        error = await place.refusal(TEXT)
    finally:
        await place.provider.close()
    assert error.code is Code.NODE_UNAVAILABLE
    assert "cannot be reached at http://127.0.0.1" in error.message
    assert not error.may_have_run
