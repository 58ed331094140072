"""Anthropic over a real socket: what is sent, what is read, and what each failure means."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from vendors.book import Tariff
from vendors.faults import Cut, Ends, FailsWithin, Fault, Garbage, Hang, Stall, Status, first
from vendors.places import KEY, AnthropicPlace, anthropic_place

from protos.errors import Cancelled, Code, FabricError, InputInvalid, ModelNotFound
from protos.types import (
    EmbeddingRequest,
    Finished,
    Message,
    ModelId,
    ResponseFormat,
    Task,
    TaskEvent,
    TaskId,
    TaskRequest,
    TextDelta,
    TextRequest,
    TextResult,
    Usage,
)
from providers.catalog import load_catalog
from providers.pricing import cost_micro

BOUND_S = 60.0
WORDS = TextRequest(prompt="one two three four five")


@pytest.fixture
async def place() -> AsyncIterator[AnthropicPlace]:
    async with anthropic_place(("claude-haiku-4-5", "claude-opus-5-5")) as opened:
        yield opened


async def run(place: AnthropicPlace, request: TaskRequest, model: str | None = None) -> list[TaskEvent]:
    task = Task(id=TaskId("task-1"), request=request, model=ModelId(model) if model else None)
    async with asyncio.timeout(BOUND_S):
        return [event async for event in place.provider.run(task)]


async def finished(place: AnthropicPlace, request: TextRequest, model: str | None = None) -> Finished:
    last = (await run(place, request, model))[-1]
    assert isinstance(last, Finished)
    return last


async def failure(place: AnthropicPlace, request: TaskRequest) -> FabricError:
    with pytest.raises(FabricError) as caught:
        await run(place, request)
    return caught.value


async def test_a_prompt_is_sent_with_a_bound_on_the_answer_and_no_default(place: AnthropicPlace) -> None:
    await finished(place, WORDS)
    assert place.vendor.bodies == [
        {
            "model": "claude-haiku-4-5",
            "max_tokens": 512,
            "messages": [{"role": "user", "content": "one two three four five"}],
            "stream": True,
        }
    ]
    assert place.vendor.headers[0]["anthropic-version"] == "2023-06-01"
    assert [entry.key for entry in place.vendor.book.entries] == [KEY]


async def test_every_param_has_anthropic_s_name_and_system_is_apart(place: AnthropicPlace) -> None:
    request = TextRequest(
        messages=(Message("system", "be brief"), Message("system", "be kind"), Message("user", "hello there")),
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        max_tokens=7,
        stop=("end",),
    )
    assert (await finished(place, request)).usage.input_tokens == 6
    sent = place.vendor.bodies[0]
    assert sent["system"] == "be brief\n\nbe kind"
    assert sent["messages"] == [{"role": "user", "content": "hello there"}]
    assert (sent["temperature"], sent["top_p"], sent["top_k"], sent["max_tokens"]) == (0.5, 0.9, 5, 7)
    assert sent["stop_sequences"] == ["end"]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (TextRequest(prompt="a", seed=1), "params.seed"),
        (TextRequest(prompt="a", min_p=0.1), "params.min_p"),
        (TextRequest(prompt="a", repetition_penalty=1.1), "params.repetition_penalty"),
        (TextRequest(prompt="a", frequency_penalty=1.1), "params.frequency_penalty"),
        (TextRequest(prompt="a", presence_penalty=1.1), "params.presence_penalty"),
        (TextRequest(prompt="a", logprobs=0), "params.logprobs"),
        (TextRequest(prompt="a", n=2), "params.n"),
        (TextRequest(prompt="a", response_format=ResponseFormat("json_object")), "params.response_format"),
        (TextRequest(prompt="a", temperature=1.5), "params.temperature"),
        (TextRequest(prompt="a", max_tokens=99_999), "params.max_tokens"),
        (TextRequest(messages=(Message("system", "be brief"),)), "input.prompt"),
    ],
)
async def test_what_is_not_taken_is_refused_before_anything_is_sent(
    place: AnthropicPlace, request_: TextRequest, path: str
) -> None:
    error = await failure(place, request_)
    assert isinstance(error, InputInvalid)
    assert error.message.startswith(f"{path}: ")
    assert place.vendor.bodies == []


async def test_another_modality_is_not_found(place: AnthropicPlace) -> None:
    assert isinstance(await failure(place, EmbeddingRequest(texts=("a",))), ModelNotFound)


async def test_usage_counts_what_was_cached_and_thought(place: AnthropicPlace) -> None:
    place.vendor.cached_tokens, place.vendor.thinks = 3, 40
    finish = await finished(place, WORDS, "claude-opus-5-5")
    assert finish.usage == Usage(input_tokens=5, cached_tokens=3, output_tokens=45, reasoning_tokens=40)
    model = load_catalog().find(place.provider.id, ModelId("claude-opus-5-5"))
    assert model
    assert model.price
    charged = place.vendor.book.entries[0].cost_micro(Tariff(4_000_000, 200_000, 20_000_000))
    assert cost_micro(finish.usage, model.price) == charged


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
async def test_why_it_stopped_is_told(place: AnthropicPlace, reason: str, told: str) -> None:
    place.vendor.stop_reason = reason
    result = (await finished(place, WORDS)).result
    assert isinstance(result, TextResult)
    assert result.finish_reason == told


async def test_a_refusal_is_no_answer(place: AnthropicPlace) -> None:
    place.vendor.stop_reason = "refusal"
    error = await failure(place, WORDS)
    assert isinstance(error, InputInvalid)
    assert error.may_have_run


@pytest.mark.parametrize(
    ("status", "kind", "code", "may_have_run"),
    [
        (400, "invalid_request_error", Code.INPUT_VALIDATION_FAILED, False),
        (401, "authentication_error", Code.VENDOR_REFUSED, False),
        (403, "permission_error", Code.VENDOR_REFUSED, False),
        (404, "not_found_error", Code.MODEL_NOT_FOUND, False),
        (408, "timeout_error", Code.NODE_UNAVAILABLE, True),
        (409, "conflict_error", Code.NODE_UNAVAILABLE, True),
        (413, "request_too_large", Code.PAYLOAD_TOO_LARGE, False),
        (429, "rate_limit_error", Code.OVERLOADED, False),
        (500, "api_error", Code.NODE_UNAVAILABLE, True),
        (529, "overloaded_error", Code.OVERLOADED, False),
    ],
)
async def test_each_status_has_its_meaning(
    place: AnthropicPlace, status: int, kind: str, code: Code, *, may_have_run: bool
) -> None:
    place.vendor.plan = first(Status(status, kind, headers={"retry-after": "7"}))
    error = await failure(place, WORDS)
    assert (error.code, error.may_have_run) == (code, may_have_run)
    assert error.retry_after_s == (7.0 if code in (Code.OVERLOADED, Code.NODE_UNAVAILABLE) else None)
    assert place.vendor.book.refused == [status]  # one call: the client's own retries are off


@pytest.mark.parametrize(
    ("fault", "code", "why"),
    [
        (Cut(0), Code.NODE_UNAVAILABLE, "was cut"),
        (Cut(5), Code.NODE_UNAVAILABLE, "was cut"),
        (Ends(5), Code.NODE_UNAVAILABLE, "without message_stop after 7 characters"),
        (Garbage("{no", 2), Code.NODE_UNAVAILABLE, "was cut"),
        (FailsWithin("overloaded_error", "Overloaded", 4), Code.OVERLOADED, "Overloaded"),
        (FailsWithin("api_error", "it broke", 4), Code.NODE_UNAVAILABLE, "it broke"),
    ],
    ids=repr,
)
async def test_a_stream_that_breaks_may_have_been_paid(
    place: AnthropicPlace, fault: Fault, code: Code, why: str
) -> None:
    if isinstance(fault, Garbage):  # an event whose data is no JSON
        fault = Garbage("{no\n\nevent: message_stop\ndata: {no", fault.chunks)
        why = "not of its own API"
    place.vendor.plan = first(fault)
    error = await failure(place, WORDS)
    assert error.code is code
    assert why in error.message
    assert error.may_have_run
    assert len(place.vendor.book.entries) == 1


@pytest.mark.parametrize("stuck", [Hang, Stall])
async def test_a_cancel_ends_a_call_wherever_it_hangs(place: AnthropicPlace, stuck: type[Hang] | type[Stall]) -> None:
    gate = asyncio.Event()
    place.vendor.plan = first(stuck(gate))
    running = asyncio.ensure_future(run(place, WORDS))
    async with asyncio.timeout(BOUND_S):
        while not place.vendor.book.entries:  # noqa: ASYNC110  # a server has no event for it
            await asyncio.sleep(0.01)
        await place.provider.cancel(TaskId("task-1"))
        with pytest.raises(Cancelled):
            await running
    gate.set()
    assert "".join(event.text for event in await run(place, WORDS) if isinstance(event, TextDelta)) == WORDS.prompt
