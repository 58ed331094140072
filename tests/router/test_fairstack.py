"""Jobs in the words of the FairStack dialect."""

from dataclasses import replace

import pytest
from scripted import a_job

from protos.errors import Code
from protos.types import Modality
from router.fairstack import STATUSES, asset_of, input_and_params, is_asked, result_of, sanitized, state_of, status_of
from router.jobs import Job, JobState, Json

PICTURE: Json = {"asset_id": "asset_1", "url": "http://x/1.png", "width": 64, "height": 32, "seed": 7}


def drawn(count: int, asked: int | None = None) -> Job:
    job = a_job(modality=Modality.IMAGE, input={"prompt": "a cat"}, params={} if asked is None else {"n": asked})
    return replace(job, state=JobState.COMPLETED, output={"images": [PICTURE] * count})


@pytest.mark.parametrize(
    ("state", "status"),
    [("pending", "queued"), ("started", "running"), ("completed", "succeeded"), ("failed", "failed")],
)
def test_each_state_has_its_word(state: str, status: str) -> None:
    job = replace(a_job(), state=JobState(state))
    assert status_of(job) == status
    assert state_of(status) is job.state
    assert is_asked(job, status)


def test_fewer_pictures_than_asked_are_partial() -> None:
    assert [status_of(drawn(*counts)) for counts in ((1, 2), (2, 2), (1, 1), (1,))] == [
        "partial",
        "succeeded",
        "succeeded",
        "succeeded",
    ]
    assert (is_asked(drawn(1, 2), "partial"), is_asked(drawn(1, 2), "succeeded")) == (True, False)
    assert is_asked(drawn(1, 2), "completed")
    assert {state_of(status) for status in STATUSES} == set(JobState)


@pytest.mark.parametrize(
    ("modality", "flat", "input_", "params"),
    [
        ("text", {"prompt": "hi", "temperature": 0}, {"prompt": "hi"}, {"temperature": 0}),
        ("text", {"input": "hi"}, {"prompt": "hi"}, {}),
        ("text", {"input": {"messages": []}}, {"messages": []}, {}),
        (
            "image",
            {"prompt": "a cat", "negative_prompt": "dog", "n": 2},
            {"prompt": "a cat", "negative_prompt": "dog"},
            {"n": 2},
        ),
        (
            "audio",
            {"input": "https://x/a.wav", "prompt": "names"},
            {"audio_url": "https://x/a.wav"},
            {"prompt": "names"},
        ),
        ("audio", {"asset_id": "asset_1"}, {"asset_id": "asset_1"}, {}),
        ("embedding", {"input": ["a", "b"], "dimensions": 4}, {"input": ["a", "b"]}, {"dimensions": 4}),
        ("embedding", {"prompt": "a"}, {"input": "a"}, {}),
    ],
)
def test_a_flat_request_is_sorted_into_input_and_params(modality: str, flat: Json, input_: Json, params: Json) -> None:
    assert input_and_params(Modality(modality), flat) == (input_, params)


def test_a_result_is_the_first_picture_and_what_it_cost() -> None:
    job = drawn(2, 2)
    result = result_of(job, 48_000)
    assert result is not None
    assert [result[name] for name in ("url", "width", "height", "duration_sec")] == ["http://x/1.png", 64, 32, None]
    assert [result[name] for name in ("cost", "cost_micro", "currency")] == [0.048, 48_000, "USD"]
    assert len(result["images"]) == 2
    assert asset_of(job) == "asset_1"
    assert result_of(a_job(), 0) is None
    assert asset_of(a_job()) is None


def test_a_transcript_has_its_length() -> None:
    output = {"text": "hello", "language": "en", "duration_s": 5.0, "segments": []}
    result = result_of(replace(a_job(), state=JobState.COMPLETED, output=output), 0)
    assert result is not None
    assert (result["duration_sec"], result["text"], "duration_s" in result) == (5.0, "hello", False)


def test_an_error_tells_what_was_wrong_with_the_request_and_no_more() -> None:
    assert sanitized({"code": Code.INPUT_VALIDATION_FAILED.value, "message": "prompt: is too long"}) == (
        "prompt: is too long"
    )
    hidden = sanitized({"code": Code.NODE_UNAVAILABLE.value, "message": "node 10.0.0.7:3100 went away"})
    assert hidden == "the generation failed (node_unavailable)"
    assert sanitized(None) is None
