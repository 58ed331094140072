"""Which requests are prepared on the event loop: those of a few words, whose reading cannot take long."""

import pytest

from node.engine import LIGHT_CHARACTERS, is_light
from protos.types import (
    AudioRequest,
    Blob,
    EmbeddingRequest,
    ImageRequest,
    Message,
    ResponseFormat,
    TaskRequest,
    TextRequest,
)

LONG = "a" * LIGHT_CHARACTERS


@pytest.mark.parametrize(
    "request_",
    [
        TextRequest(prompt="What is 3 plus 4?"),
        TextRequest(messages=[Message("system", "Be brief."), Message("user", "What is 3 plus 4?")]),
        EmbeddingRequest(texts=["a cat", "a dog"]),
        ImageRequest(prompt="a red circle", negative_prompt="blue"),
    ],
)
def test_a_few_words_are_light(request_: TaskRequest) -> None:
    assert is_light(request_)


@pytest.mark.parametrize(
    "request_",
    [
        TextRequest(prompt=LONG),
        TextRequest(messages=[Message("user", "hi")] * LIGHT_CHARACTERS),
        TextRequest(prompt="a number", response_format=ResponseFormat("regex", "[0-9]+")),
        TextRequest(prompt="a word", logprobs=0),
        EmbeddingRequest(texts=["a cat", LONG]),
        EmbeddingRequest(texts=["a"] * LIGHT_CHARACTERS),
        ImageRequest(prompt="a red circle", negative_prompt=LONG),
        ImageRequest(prompt="a red circle", image=Blob(b"a picture")),
        AudioRequest(audio=Blob(b"a sound")),
    ],
)
def test_what_may_take_long_is_not(request_: TaskRequest) -> None:
    assert not is_light(request_)
