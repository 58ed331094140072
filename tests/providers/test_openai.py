"""OpenAI over a real socket: what is sent, what is read, and what each failure means."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from vendors.book import Tariff
from vendors.faults import Cut, Ends, FailsWithin, Fault, Garbage, Hang, Stall, Status, first
from vendors.places import KEY, OpenAIPlace, openai_place

from protos.errors import Cancelled, Code, FabricError, InputInvalid, ModelNotFound, NodeUnavailable, VendorRefused
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    EmbeddingResult,
    Finished,
    ImageRequest,
    Message,
    ModelId,
    OrganizationId,
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
SOUND = AudioRequest(audio=Blob(b"RIFF" + b"\0" * 63_996, "audio/wav"))
PICTURE = ImageRequest(prompt="red", width=1024, height=1024)


@pytest.fixture
async def place() -> AsyncIterator[OpenAIPlace]:
    models = ("gpt-4o-mini", "o4-mini", "text-embedding-3-small", "text-embedding-ada-002", "gpt-image-2.6-sunburst")
    async with openai_place((*models, "dall-e-3", "whisper-1")) as opened:
        yield opened


def a_task(request: TaskRequest, model: str | None = None) -> Task:
    return Task(id=TaskId("task-1"), request=request, model=ModelId(model) if model else None)


async def run(place: OpenAIPlace, task: Task) -> list[TaskEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in place.provider.run(task)]


async def finished(place: OpenAIPlace, request: TaskRequest, model: str | None = None) -> Finished:
    last = (await run(place, a_task(request, model)))[-1]
    assert isinstance(last, Finished)
    return last


async def failure(place: OpenAIPlace, request: TaskRequest, model: str | None = None) -> FabricError:
    with pytest.raises(FabricError) as caught:
        await run(place, a_task(request, model))
    return caught.value


# ---- what is sent ----


async def test_a_prompt_is_sent_with_a_bound_on_the_answer_and_no_default(place: OpenAIPlace) -> None:
    await finished(place, WORDS)
    assert place.vendor.bodies == [
        {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "one two three four five"}],
            "max_completion_tokens": 512,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_every_param_of_text_has_openai_s_name(place: OpenAIPlace) -> None:
    request = TextRequest(
        messages=(Message("system", "be brief"), Message("user", "hello there")),
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        stop=("end",),
        seed=3,
    )
    await finished(place, request)
    sent = place.vendor.bodies[0]
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]
    assert (sent["temperature"], sent["top_p"], sent["max_completion_tokens"]) == (0.5, 0.9, 7)
    assert (sent["stop"], sent["seed"]) == (["end"], 3)


async def test_a_model_that_thinks_gets_room_to_think(place: OpenAIPlace) -> None:
    await finished(place, WORDS, "o4-mini")
    assert place.vendor.bodies[0]["max_completion_tokens"] == 512 + 8192


async def test_the_key_and_the_task_s_id_are_headers(place: OpenAIPlace) -> None:
    await finished(place, WORDS)
    headers = place.vendor.headers[0]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["idempotency-key"] == "task-1"


async def test_each_organization_s_calls_are_made_with_its_own_key() -> None:
    keys = {OrganizationId("a"): KEY, OrganizationId("b"): "sk-of-b-0123456789"}
    async with openai_place(keys=lambda organization, _: keys.get(organization)) as place:
        place.vendor.key = ""
        for organization in keys:
            await run(place, replace(a_task(WORDS), organization_id=organization))
        assert [entry.key for entry in place.vendor.book.entries] == [f"Bearer {key}" for key in keys.values()]
        with pytest.raises(VendorRefused, match="set OPENAI_API_KEY, or store it as a secret of organization c"):
            await run(place, replace(a_task(WORDS), organization_id=OrganizationId("c")))


@pytest.mark.parametrize(
    ("request_", "model", "paths"),
    [
        (TextRequest(prompt="a", top_k=5, min_p=0.1, repetition_penalty=1.1), None, ["top_k", "min_p", "repetition_penalty"]),
        (TextRequest(prompt="a", temperature=0.5, stop=("x",)), "o4-mini", ["temperature", "stop"]),
        (TextRequest(prompt="a", stop=("1", "2", "3", "4", "5")), None, ["stop"]),
        (TextRequest(prompt="a", max_tokens=99_999), None, ["max_tokens"]),
        (EmbeddingRequest(texts=("a",), prompt_name="query"), None, ["prompt_name"]),
        (EmbeddingRequest(texts=("a",), dimensions=8), "text-embedding-ada-002", ["dimensions"]),
        (ImageRequest(prompt="a", width=1000, height=1000), None, ["width"]),
        (ImageRequest(prompt="a", width=1024), None, ["width"]),
        (ImageRequest(prompt="a", n=2), "dall-e-3", ["n"]),
        (ImageRequest(prompt="a", steps=3, guidance_scale=2.0, seed=1), None, ["steps", "guidance_scale", "seed"]),
        (ImageRequest(prompt="a", scheduler="ddim", preview_every=2), None, ["scheduler", "preview_every"]),
        (replace(SOUND, task="translate", word_timestamps=True), None, ["word_timestamps"]),
        (replace(SOUND, task="translate", language="de"), None, ["language"]),
    ],
)  # fmt: skip
async def test_a_param_that_is_not_taken_is_refused_before_anything_is_sent(
    place: OpenAIPlace, request_: TaskRequest, model: str | None, paths: list[str]
) -> None:
    error = await failure(place, request_, model)
    assert isinstance(error, InputInvalid)
    listed = error.details["errors"]
    assert isinstance(listed, list)
    assert [each["path"] for each in listed] == [f"params.{path}" for path in paths]
    assert place.vendor.bodies == []


@pytest.mark.parametrize(
    "request_", [ImageRequest(prompt="a", negative_prompt="b"), ImageRequest(prompt="a", image=Blob(b"x"))]
)
async def test_an_input_that_is_not_taken_is_refused_too(place: OpenAIPlace, request_: ImageRequest) -> None:
    assert (await failure(place, request_)).code is Code.INPUT_VALIDATION_FAILED


# ---- what is read ----


async def test_usage_is_what_the_vendor_counted(place: OpenAIPlace) -> None:
    place.vendor.cached_tokens, place.vendor.thinks = 3, 40
    usage = (await finished(place, WORDS)).usage
    assert usage == Usage(input_tokens=5, cached_tokens=3, output_tokens=45, reasoning_tokens=40)


async def test_our_cost_is_what_the_vendor_charged(place: OpenAIPlace) -> None:
    place.vendor.cached_tokens = 3
    finish = await finished(place, WORDS)
    model = load_catalog().find(place.provider.id, ModelId("gpt-4o-mini"))
    assert model
    assert model.price
    charged = place.vendor.book.entries[0].cost_micro(Tariff(150_000, 75_000, 600_000))
    assert cost_micro(finish.usage, model.price) == charged


async def test_a_server_that_reports_no_usage_is_counted_for(place: OpenAIPlace) -> None:
    place.vendor.reports_usage = False
    assert (await finished(place, WORDS)).usage == Usage(input_tokens=5, output_tokens=5)


async def test_words_have_times_within_their_segment_when_asked_for(place: OpenAIPlace) -> None:
    result = (await finished(place, replace(SOUND, word_timestamps=True, language="en", prompt="fox"))).result
    assert isinstance(result, AudioResult)
    assert [[word.text for word in segment.words] for segment in result.segments] == [
        ["The", "quick"],
        ["brown", "fox"],
    ]
    assert (result.language, result.duration_s) == ("en", 2.0)
    sent = place.vendor.bodies[0]
    assert sent["timestamp_granularities[]"] == ["word", "segment"]
    assert (sent["file"], sent["response_format"]) == ("audio.wav", "verbose_json")
    assert (sent["language"], sent["prompt"]) == ("en", "fox")


async def test_a_translation_goes_to_its_own_endpoint(place: OpenAIPlace) -> None:
    await finished(place, replace(SOUND, task="translate"))
    assert place.vendor.book.entries[0].path == "/v1/audio/translations"


async def test_a_picture_says_how_it_was_asked_for_and_charged(place: OpenAIPlace) -> None:
    usage = (await finished(place, replace(PICTURE, n=2))).usage
    assert usage == Usage(images=2, input_tokens=1, output_tokens=2112)
    assert place.vendor.bodies[0] == {
        "model": "gpt-image-2.6-sunburst", "prompt": "red", "n": 2, "size": "1024x1024", "quality": "medium"
    }  # fmt: skip
    await finished(place, PICTURE, "dall-e-3")
    assert place.vendor.bodies[1]["response_format"] == "b64_json"


async def test_vectors_are_asked_for_as_bytes_and_may_be_shortened(place: OpenAIPlace) -> None:
    result = (await finished(place, EmbeddingRequest(texts=("a", "b"), dimensions=8))).result
    assert isinstance(result, EmbeddingResult)
    assert (result.dimensions, len(result.vectors)) == (8, 2 * 8 * 4)
    assert place.vendor.bodies[0]["encoding_format"] == "base64"


# ---- what fails ----


@pytest.mark.parametrize(
    ("status", "code", "may_have_run"),
    [
        (400, Code.INPUT_VALIDATION_FAILED, False),
        (401, Code.VENDOR_REFUSED, False),
        (403, Code.VENDOR_REFUSED, False),
        (404, Code.MODEL_NOT_FOUND, False),
        (408, Code.NODE_UNAVAILABLE, True),
        (409, Code.NODE_UNAVAILABLE, True),
        (413, Code.PAYLOAD_TOO_LARGE, False),
        (429, Code.OVERLOADED, False),
        (500, Code.NODE_UNAVAILABLE, True),
        (503, Code.NODE_UNAVAILABLE, False),
        (529, Code.OVERLOADED, False),
    ],
)
@pytest.mark.parametrize(
    "request_", [WORDS, EmbeddingRequest(texts=("a",)), PICTURE, SOUND], ids=lambda r: type(r).__name__
)
async def test_each_status_means_the_same_for_every_modality(
    place: OpenAIPlace, request_: TaskRequest, status: int, code: Code, *, may_have_run: bool
) -> None:
    place.vendor.plan = first(Status(status, headers={"retry-after": "7"}))
    error = await failure(place, request_)
    assert (error.code, error.may_have_run) == (code, may_have_run)
    assert error.retry_after_s == (7.0 if code in (Code.OVERLOADED, Code.NODE_UNAVAILABLE) else None)
    assert place.vendor.book.refused == [status]  # one call: the client's own retries are off


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Cut(0), "was cut"),
        (Cut(2), "was cut"),
        (Ends(3), "without a finish_reason after 7 characters"),
        (Garbage("{not json", 2), "not of its own API"),
        (Garbage('{"choices": "none"}', 1), "not of its own API"),
        (Garbage('{"choices": [{"delta": null}]}', 1), "not of its own API"),
        (Garbage('{"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": 1}}', 6), None),
        (FailsWithin("server_error", "it broke", 2), "it broke"),
        (FailsWithin("rate_limit_exceeded", "too much", 2), "too much"),
    ],
    ids=repr,
)
async def test_a_stream_that_breaks_may_have_been_paid(place: OpenAIPlace, fault: Fault, why: str | None) -> None:
    place.vendor.plan = first(fault)
    if why is None:  # what comes later corrects it
        assert (await finished(place, WORDS)).usage.input_tokens == 5
        return
    error = await failure(place, WORDS)
    assert why in error.message
    assert error.may_have_run
    assert error.retryable
    assert len(place.vendor.book.entries) == 1


@pytest.mark.parametrize("request_", [EmbeddingRequest(texts=("a",)), PICTURE, SOUND], ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("fault", [Cut(), Garbage("{not json"), Garbage('{"data": [], "duration": null}')], ids=repr)
async def test_an_answer_in_one_piece_that_breaks_may_have_been_paid(
    place: OpenAIPlace, request_: TaskRequest, fault: Fault
) -> None:
    place.vendor.plan = first(fault)
    error = await failure(place, request_)
    assert (error.code, error.may_have_run) == (Code.NODE_UNAVAILABLE, True)


async def test_several_answers_arrive_each_as_its_own_with_the_scores_of_its_tokens(place: OpenAIPlace) -> None:
    request = TextRequest(prompt="one two", n=2, logprobs=2, frequency_penalty=0.5, presence_penalty=-0.5)
    events = [event async for event in place.provider.run(a_task(request))]
    result, deltas = events[-1].result, [event for event in events if isinstance(event, TextDelta)]
    assert [each.text for each in result.answers] == ["one two", "one two"]
    for number, each in enumerate(result.answers):
        assert "".join(delta.text for delta in deltas if delta.answer == number) == each.text
        assert [chosen.token.data for chosen in each.logprobs] == [b"one", b" two"]
        assert [(top.data, top.logprob) for top in each.logprobs[0].top] == [(b"one", -0.5), (b"one1", -1.5)]
    sent = place.vendor.bodies[-1]
    assert (sent["n"], sent["logprobs"], sent["top_logprobs"]) == (2, True, 2)
    assert (sent["frequency_penalty"], sent["presence_penalty"]) == (0.5, -0.5)
    assert events[-1].usage.output_tokens == 4


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        (ResponseFormat("json_object"), {"type": "json_object"}),
        (
            ResponseFormat("json_schema", '{"type": "object"}', "thing", is_strict=True),
            {"type": "json_schema", "json_schema": {"name": "thing", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
async def test_a_format_is_sent_as_the_vendor_names_it(place: OpenAIPlace, form: ResponseFormat, sent: object) -> None:
    await finished(place, TextRequest(prompt="one", response_format=form))
    assert place.vendor.bodies[-1]["response_format"] == sent


@pytest.mark.parametrize("form", [ResponseFormat("regex", "a+"), ResponseFormat("grammar", "start: 'a'")])
async def test_a_format_that_the_vendor_has_not_is_refused_before_it_is_sent(
    place: OpenAIPlace, form: ResponseFormat
) -> None:
    error = await failure(place, TextRequest(prompt="one", response_format=form))
    assert "params.response_format" in error.message
    assert not place.vendor.bodies


async def test_what_was_said_before_a_break_was_passed_on(place: OpenAIPlace) -> None:
    place.vendor.plan = first(FailsWithin("server_error", "it broke", 3))
    said: list[str] = []

    async def hear() -> None:
        async for event in place.provider.run(a_task(WORDS)):
            if isinstance(event, TextDelta):
                said.append(event.text)  # noqa: PERF401  # what came before the failure counts

    with pytest.raises(NodeUnavailable):
        await asyncio.wait_for(hear(), BOUND_S)
    assert "".join(said) == "one two"


async def test_a_filter_that_stops_the_answer_is_no_answer(place: OpenAIPlace) -> None:
    ended = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}'
    place.vendor.plan = first(Garbage(ended, 7))
    error = await failure(place, WORDS)
    assert isinstance(error, InputInvalid)
    assert error.may_have_run


async def test_a_server_that_is_not_there_was_not_called() -> None:
    async with openai_place() as place:
        pass
    await place.provider.start()
    try:
        error = await failure(place, WORDS)
    finally:
        await place.provider.close()
    assert (error.code, error.may_have_run) == (Code.NODE_UNAVAILABLE, False)
    assert "cannot be reached at http://127.0.0.1" in error.message


@pytest.mark.parametrize("stuck", [Hang, Stall])
async def test_a_cancel_ends_a_call_wherever_it_hangs(place: OpenAIPlace, stuck: type[Hang] | type[Stall]) -> None:
    gate = asyncio.Event()
    place.vendor.plan = first(stuck(gate))
    running = asyncio.ensure_future(run(place, a_task(WORDS)))
    async with asyncio.timeout(BOUND_S):
        while not place.vendor.book.entries:  # noqa: ASYNC110  # a server has no event for it
            await asyncio.sleep(0.01)
        await place.provider.cancel(TaskId("task-1"))
        with pytest.raises(Cancelled) as caught:
            await running
    assert caught.value.may_have_run
    gate.set()
    assert (await finished(place, WORDS)).result == TextResult("one two three four five", "stop")


async def test_a_model_of_another_modality_is_not_found(place: OpenAIPlace) -> None:
    error = await failure(place, WORDS, "whisper-1")
    assert isinstance(error, ModelNotFound)
    assert "gpt-4o-mini" in error.message


async def test_a_snapshot_has_the_prices_and_the_default_of_each_modality(place: OpenAIPlace) -> None:
    snapshot = place.provider.snapshot()
    assert {offer.modality: offer.model for offer in snapshot.offers if offer.is_default} == {
        "text": "gpt-4o-mini",
        "image": "gpt-image-2.6-sunburst",
        "audio": "whisper-1",
        "embedding": "text-embedding-3-small",
    }
    assert all(offer.price for offer in snapshot.offers)
    assert snapshot.cost_micro[ModelId("dall-e-3")] == 40_000
    assert snapshot.is_remote
