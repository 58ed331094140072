"""Requests that the model cannot serve are refused with the field, its value and the bound."""

from typing import Any

import pytest

from protos.errors import InputInvalid
from protos.types import EmbeddingRequest, Message, TextRequest


@pytest.mark.parametrize(
    ("request_", "path", "message"),
    [
        (TextRequest(), "prompt", "is missing"),
        (TextRequest(prompt=""), "prompt", "is empty"),
        (TextRequest(prompt=" \n"), "prompt", "is empty"),
        (TextRequest(prompt="a", messages=(Message("user", "a"),)), "prompt", "one of the two"),
        (TextRequest(messages=(Message("wizard", "a"),)), "messages[0].role", "'wizard' is unknown"),
        (TextRequest(messages=(Message("user", ""),)), "messages[0].content", "is empty"),
        (TextRequest(prompt="a" * 100), "prompt", "is 105 tokens long and the model's context is 96"),
        (TextRequest(prompt="abc", max_tokens=89), "max_tokens", "89 does not fit: the prompt takes 8 of the 96"),
        (TextRequest(prompt="a", max_tokens=0), "max_tokens", "at least 1, got 0"),
        (TextRequest(prompt="a", temperature=-0.5), "temperature", "at least 0, got -0.5"),
        (TextRequest(prompt="a", temperature=float("nan")), "temperature", "got nan"),
        (TextRequest(prompt="a", top_p=0.0), "top_p", "above 0 and at most 1, got 0.0"),
        (TextRequest(prompt="a", top_p=1.5), "top_p", "got 1.5"),
        (TextRequest(prompt="a", top_k=-1), "top_k", "got -1"),
        (TextRequest(prompt="a", min_p=2.0), "min_p", "got 2.0"),
        (TextRequest(prompt="a", repetition_penalty=0.0), "repetition_penalty", "got 0.0"),
        (TextRequest(prompt="a", frequency_penalty=2.5), "frequency_penalty", "from -2 to 2, got 2.5"),
        (TextRequest(prompt="a", presence_penalty=float("nan")), "presence_penalty", "from -2 to 2, got nan"),
        (TextRequest(prompt="a", logprobs=21), "logprobs", "from 0 to 20, got 21"),
        (TextRequest(prompt="a", n=0), "n", "at least 1, got 0"),
        (TextRequest(prompt="a", n=5), "n", "is 5, and the model has 4 seats"),
        (TextRequest(prompt="a", stop=("",)), "stop[0]", "is empty"),
        (TextRequest(prompt="a", stop=("x",) * 17), "stop", "has 17 strings: send at most 16"),
        (TextRequest(prompt="a", stop=("x" * 257,)), "stop[0]", "has 257 characters"),
    ],
)
def test_bad_values_are_named(desk: Any, request_: TextRequest, path: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        desk.prepare("bad", request_)
    assert any(e["path"] == path and message in e["message"] for e in caught.value.details["errors"])


def test_all_wrong_fields_are_named_at_once(desk: Any) -> None:
    with pytest.raises(InputInvalid) as caught:
        desk.prepare("bad", TextRequest(prompt="", temperature=-1, top_p=3, stop=("",)))
    assert [e["path"] for e in caught.value.details["errors"]] == ["prompt", "temperature", "top_p", "stop[0]"]


def test_a_request_of_another_modality_is_refused(desk: Any) -> None:
    with pytest.raises(InputInvalid, match="is for embedding, and tiny is a text model"):
        desk.prepare("bad", EmbeddingRequest(texts=("a",)))


def test_a_prompt_is_one_user_message(desk: Any) -> None:
    prompt = desk.prepare("a", TextRequest(prompt="hi")).payload.prompt
    assert prompt == desk.prepare("b", TextRequest(messages=(Message("user", "hi"),))).payload.prompt
    assert len(prompt) == len("u:hi\na:")


@pytest.mark.parametrize(("max_tokens", "expected"), [(None, 96 - 7), (5, 5), (96 - 7, 96 - 7)])
def test_max_tokens_defaults_to_what_is_left_of_the_context(desk: Any, max_tokens: int | None, expected: int) -> None:
    prepared = desk.prepare("a", TextRequest(prompt="hi", max_tokens=max_tokens))
    assert prepared.usage.input_tokens == 7
    assert prepared.usage.output_tokens == expected
