"""wire.md's table: what JSON becomes which request, what is refused and how it is named, and what a result becomes."""

import base64
import struct
from typing import Any

import pytest
from scripted import a_job

from protos.errors import InputInvalid
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    ChosenToken,
    EmbeddingRequest,
    EmbeddingResult,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    Message,
    Modality,
    ResponseFormat,
    Segment,
    TextRequest,
    TextResult,
    Tier,
    TokenLogprob,
    Usage,
    Word,
)
from router.inputs import Inline, Remote, Stored
from router.tasks import (
    Attached,
    attached,
    image_output,
    output_of,
    referring,
    request_of,
    task_of,
    usage_from,
    usage_json,
)

TEXT, IMAGE, AUDIO, EMBEDDING = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.EMBEDDING
WAV = base64.b64encode(b"RIFF....").decode()
Json = dict[str, Any]  # Any: decoded JSON

GOOD: list[tuple[Modality, Json, Json, object]] = [
    (TEXT, {"prompt": "hi"}, {}, TextRequest(prompt="hi")),
    (
        TEXT,
        {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}]},
        {"temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "max_tokens": 7, "stop": "end", "seed": 1},
        TextRequest(
            messages=(Message("system", ""), Message("user", "hi")),
            temperature=0,
            top_p=0.5,
            top_k=3,
            min_p=0.1,
            max_tokens=7,
            stop=["end"],
            seed=1,
        ),
    ),
    (TEXT, {"prompt": "hi", "messages": None}, {"stop": None}, TextRequest(prompt="hi")),
    (
        TEXT,
        {"prompt": "hi"},
        {"frequency_penalty": 0.5, "presence_penalty": -2, "logprobs": 0, "n": 3, "response_format": {"type": "text"}},
        TextRequest(prompt="hi", frequency_penalty=0.5, presence_penalty=-2, logprobs=0, n=3),
    ),
    *(
        (TEXT, {"prompt": "hi"}, {"response_format": asked}, TextRequest(prompt="hi", response_format=response_format))
        for asked, response_format in [
            ({"type": "json_object"}, ResponseFormat("json_object")),
            (
                {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"b": 1, "a": "é"}}},
                ResponseFormat("json_schema", '{"b": 1, "a": "é"}', "x", is_strict=True),
            ),
            (
                {"type": "json_schema", "json_schema": {"schema": {}}},
                ResponseFormat("json_schema", "{}", "answer"),
            ),
            ({"type": "regex", "regex": "a+"}, ResponseFormat("regex", "a+")),
            ({"type": "grammar", "grammar": 'start: "a"'}, ResponseFormat("grammar", 'start: "a"')),
        ]
    ),
    (IMAGE, {"prompt": "a cat"}, {}, ImageRequest(prompt="a cat")),
    (
        IMAGE,
        {"prompt": "a cat", "negative_prompt": "a dog", "image": "data:image/png;base64,AAAA"},
        {
            "width": 64,
            "height": 128,
            "steps": 4,
            "guidance_scale": 7.5,
            "strength": 0.5,
            "seed": 3,
            "n": 2,
            "scheduler": "dpmpp_2m",
            "preview_every": 2,
        },
        ImageRequest(
            prompt="a cat",
            negative_prompt="a dog",
            image=Blob(b"\0\0\0", "image/png"),
            width=64,
            height=128,
            steps=4,
            guidance_scale=7.5,
            strength=0.5,
            seed=3,
            n=2,
            scheduler="dpmpp_2m",
            preview_every=2,
        ),
    ),
    (AUDIO, {"audio": WAV}, {}, AudioRequest(audio=Blob(b"RIFF...."))),
    (
        AUDIO,
        {"audio": "data:audio/wav;base64," + WAV},
        {"language": "auto", "task": "translate", "word_timestamps": True, "prompt": "p", "vad": False},
        AudioRequest(
            audio=Blob(b"RIFF....", "audio/wav"), task="translate", word_timestamps=True, prompt="p", vad=False
        ),
    ),
    (EMBEDDING, {"text": "a"}, {}, EmbeddingRequest(texts=("a",))),
    (EMBEDDING, {"texts": ["a", "b"]}, {"dimensions": 8}, EmbeddingRequest(texts=("a", "b"), dimensions=8)),
    (EMBEDDING, {"input": ["a"]}, {"normalize": False}, EmbeddingRequest(texts=("a",), normalize=False)),
    (EMBEDDING, {"input": "a"}, {"prompt_name": "query"}, EmbeddingRequest(texts=("a",), prompt_name="query")),
]


@pytest.mark.parametrize(("modality", "input", "params", "request_"), GOOD)
def test_json_becomes_the_request_it_says(modality: Modality, input: Json, params: Json, request_: object) -> None:  # noqa: A002
    assert request_of(modality, input, params) == request_


BAD: list[tuple[Modality, Json, Json, dict[str, str]]] = [
    (TEXT, {}, {}, {"input": "needs exactly one of prompt, messages, it has none"}),
    (
        TEXT,
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        {},
        {"input": "both of prompt and messages"},
    ),
    (TEXT, {"prompt": ""}, {}, {"input.prompt": "at least 1 character, got ''"}),
    (TEXT, {"messages": []}, {}, {"input.messages": "at least 1 item"}),
    (TEXT, {"messages": [{"role": "robot", "content": "x"}]}, {}, {"input.messages[0].role": "'user'"}),
    (TEXT, {"messages": [{"role": "user"}]}, {}, {"input.messages[0].content": "is missing"}),
    (TEXT, {"prompt": "a"}, {"temperature": -0.1}, {"params.temperature": "greater than or equal to 0, got -0.1"}),
    (TEXT, {"prompt": "a"}, {"temperature": "0"}, {"params.temperature": "valid number, got '0'"}),
    (TEXT, {"prompt": "a"}, {"temperature": float("nan")}, {"params.temperature": "finite number"}),
    (TEXT, {"prompt": "a"}, {"max_tokens": 0}, {"params.max_tokens": "greater than or equal to 1, got 0"}),
    (TEXT, {"prompt": "a"}, {"max_tokens": 1.5}, {"params.max_tokens": "valid integer, got 1.5"}),
    (TEXT, {"prompt": "a"}, {"max_tokens": True}, {"params.max_tokens": "valid integer, got True"}),
    (TEXT, {"prompt": "a"}, {"seed": -1}, {"params.seed": "got -1"}),
    (
        TEXT,
        {"prompt": "a"},
        {"frequency_penalty": 2.5},
        {"params.frequency_penalty": "less than or equal to 2, got 2.5"},
    ),
    (TEXT, {"prompt": "a"}, {"presence_penalty": -3}, {"params.presence_penalty": "or equal to -2, got -3"}),
    (TEXT, {"prompt": "a"}, {"logprobs": 21}, {"params.logprobs": "less than or equal to 20, got 21"}),
    (TEXT, {"prompt": "a"}, {"logprobs": True}, {"params.logprobs": "valid integer, got True"}),
    (TEXT, {"prompt": "a"}, {"n": 17}, {"params.n": "less than or equal to 16, got 17"}),
    (TEXT, {"prompt": "a"}, {"response_format": {"type": "xml"}}, {"params.response_format": "'json_object'"}),
    (
        TEXT,
        {"prompt": "a"},
        {"response_format": {"type": "regex", "regex": ""}},
        {"params.response_format.regex.regex": "at least 1 character, got ''"},
    ),
    (
        TEXT,
        {"prompt": "a"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "x" * 65_536}}}},
        {"params.response_format.json_schema.json_schema.schema": "65549 characters as JSON: send at most 65536"},
    ),
    (TEXT, {"prompt": "a"}, {"stop": [""]}, {"params.stop[0]": "at least 1 character"}),
    (TEXT, {"prompt": "a"}, {"temprature": 1}, {"params.temprature": "is not known here"}),
    (
        TEXT,
        {"promt": "a"},
        {"top_p": 0, "top_k": -1},
        {"input.promt": "is not known here", "params.top_p": "got 0", "params.top_k": "got -1"},
    ),
    (IMAGE, {}, {}, {"input.prompt": "is missing"}),
    (IMAGE, {"prompt": "a"}, {"width": 65, "n": 0}, {"params.width": "multiple of 8, got 65", "params.n": "got 0"}),
    (IMAGE, {"prompt": "a", "image": "not base64!"}, {}, {"input.image": "is not base64"}),
    (AUDIO, {}, {}, {"input": "needs exactly one of audio, audio_url, asset_id, it has none"}),
    (AUDIO, {"audio": ""}, {}, {"input.audio": "is empty"}),
    (AUDIO, {"audio": WAV, "asset_id": "asset_1"}, {}, {"input": "both of audio and asset_id"}),
    (AUDIO, {"audio": 5}, {}, {"input.audio": "valid string, got 5"}),
    (AUDIO, {"audio": "asset_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, {}, {"input.audio": "is not base64"}),
    (IMAGE, {"prompt": "a", "image": ["x"]}, {}, {"input.image": "valid string"}),
    (AUDIO, {"audio": WAV}, {"language": "English"}, {"params.language": "got 'English'"}),
    (AUDIO, {"audio": WAV}, {"task": "sing"}, {"params.task": "'translate', got 'sing'"}),
    (EMBEDDING, {}, {}, {"input": "needs exactly one of text, texts, input, it has none"}),
    (EMBEDDING, {"text": " \n"}, {}, {"input.text": "is empty"}),
    (EMBEDDING, {"texts": []}, {}, {"input.texts": "at least 1 item"}),
    (EMBEDDING, {"texts": ["a", "", "b", " "]}, {}, {"input.texts[1]": "is empty", "input.texts[3]": "is empty"}),
    (EMBEDDING, {"texts": "a"}, {}, {"input.texts": "valid list"}),
    (EMBEDDING, {"input": ["a", 5]}, {}, {"input.input[1]": "valid string, got 5"}),
    (
        EMBEDDING,
        {"text": "a"},
        {"dimensions": 0, "normalize": 1},
        {"params.dimensions": "got 0", "params.normalize": "got 1"},
    ),
]


@pytest.mark.parametrize(("modality", "input", "params", "errors"), BAD)
def test_bad_json_is_refused_with_every_wrong_field_named(
    modality: Modality,
    input: Json,  # noqa: A002
    params: Json,
    errors: dict[str, str],
) -> None:
    with pytest.raises(InputInvalid) as refused:
        request_of(modality, input, params)
    found = {error["path"]: error["message"] for error in refused.value.details["errors"]}  # type: ignore[attr-defined]  # a list
    assert found.keys() == errors.keys()
    for path, message in errors.items():
        assert message in found[path]


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InputInvalid) as refused:
        request_of(AUDIO, {"audio": WAV}, {"language": "x" * 5000})
    assert len(refused.value.message) < 300


def test_a_task_carries_what_the_job_says() -> None:
    job = a_job(model="parrot", priority=90, timeout_s=2.5)
    task = task_of(job)
    assert (task.id, task.model, task.priority, task.timeout_s) == (job.id, "parrot", 90, 2.5)
    assert task.organization_id == job.request.organization_id


def test_another_router_is_told_the_tier_and_the_privacy_of_a_job() -> None:
    task = task_of(a_job(tier=Tier.BASIC, privacy="local_only"))
    assert (task.tier, task.privacy, task.is_forwarded) == (Tier.BASIC, "local_only", False)
    assert task_of(a_job()).privacy == "any"


def test_results_become_the_output_of_the_wire() -> None:
    assert output_of(TextResult("7", "stop")) == {"text": "7", "finish_reason": "stop"}
    vectors = struct.pack("<4f", 1.0, 0.5, -0.25, 0.0)
    assert output_of(EmbeddingResult(2, vectors)) == {"embeddings": [[1.0, 0.5], [-0.25, 0.0]], "dimensions": 2}
    words = (Word(0.0, 0.5, "a", 0.9),)
    assert output_of(AudioResult("a b", "en", 2.0, (Segment(0.0, 1.0, "a", words), Segment(1.0, 2.0, "b")))) == {
        "text": "a b",
        "language": "en",
        "duration_s": 2.0,
        "segments": [
            {
                "start": 0.0,
                "end": 1.0,
                "text": "a",
                "words": [{"start": 0.0, "end": 0.5, "text": "a", "probability": 0.9}],
            },
            {"start": 1.0, "end": 2.0, "text": "b"},
        ],
    }


def test_pictures_are_shown_as_the_assets_they_became() -> None:
    result = ImageResult((GeneratedImage(b"png", "image/png", 8, 16, 3), GeneratedImage(b"gnp", "image/png", 8, 16, 4)))
    shown = {"content_type": "image/png", "width": 8, "height": 16}
    assert image_output(result, [("asset_1", "/1"), ("asset_2", "/2")]) == {
        "images": [
            {"asset_id": "asset_1", "url": "/1", **shown, "seed": 3},
            {"asset_id": "asset_2", "url": "/2", **shown, "seed": 4},
        ]
    }


INLINE = Inline(Blob(b"RIFF...."))
SOURCES: list[tuple[Modality, Json, Attached | None]] = [
    (TEXT, {"prompt": "hi"}, None),
    (EMBEDDING, {"text": "hi"}, None),
    (IMAGE, {"prompt": "a"}, None),
    (IMAGE, {"prompt": "a", "image": None}, None),
    (IMAGE, {"prompt": "a", "image": WAV}, Attached(INLINE, "input.image")),
    (IMAGE, {"prompt": "a", "image": "asset_1"}, Attached(Stored("asset_1"), "input.image")),
    (IMAGE, {"prompt": "a", "image": "https://x.org/a.png"}, Attached(Remote("https://x.org/a.png"), "input.image")),
    (AUDIO, {"audio": WAV}, Attached(INLINE, "input.audio")),
    (AUDIO, {"asset_id": "asset_1", "audio": None}, Attached(Stored("asset_1"), "input.asset_id")),
    (AUDIO, {"audio_url": "http://x.org/a"}, Attached(Remote("http://x.org/a"), "input.audio_url")),
]


@pytest.mark.parametrize(("modality", "input", "found"), SOURCES)
def test_the_file_of_an_input_is_found_in_each_of_its_forms(
    modality: Modality,
    input: Json,  # noqa: A002
    found: Attached | None,
) -> None:
    assert attached(modality, input) == found


def test_an_input_keeps_all_but_its_file_when_it_refers_to_an_asset() -> None:
    assert referring(AUDIO, {"audio": WAV}, "asset_1") == {"asset_id": "asset_1"}
    picture = {"prompt": "a", "negative_prompt": "b", "image": WAV}
    assert referring(IMAGE, picture, "asset_1") == {"prompt": "a", "negative_prompt": "b", "image": "asset_1"}
    assert picture["image"] == WAV


def test_what_an_input_refers_to_goes_into_the_task() -> None:
    file = Blob(b"RIFF", "audio/wav")
    assert request_of(AUDIO, {"asset_id": "asset_1"}, {}, file) == AudioRequest(audio=file)
    assert request_of(IMAGE, {"prompt": "a", "image": "https://x.org/a"}, {}, file) == ImageRequest(
        prompt="a", image=file
    )


def test_usage_survives_json() -> None:
    usage = Usage(input_tokens=3, output_tokens=4, audio_seconds=1.5, images=2, device_seconds=0.25)
    assert usage_from(usage_json(usage)) == usage


def test_several_answers_and_their_log_probabilities_are_all_in_the_output() -> None:
    token = TokenLogprob("é".encode()[:1], -0.5)
    one = TextResult("a", "stop", (ChosenToken(token, (token,)),))
    scored = {"token": "\ufffd", "logprob": -0.5, "bytes": [195]}
    first = {"text": "a", "finish_reason": "stop", "logprobs": [scored | {"top_logprobs": [scored]}]}
    assert output_of(one) == first
    both = TextResult("a", "stop", one.logprobs, (TextResult("b", "length"),))
    second = {"index": 1, "text": "b", "finish_reason": "length"}
    assert output_of(both) == first | {"choices": [{"index": 0, **first}, second]}
