"""What echo makes of the wishes of a text request."""

import json

import pytest

from protos.errors import InputInvalid
from protos.types import (
    Finished,
    ModelId,
    ResponseFormat,
    Task,
    TaskId,
    TextDelta,
    TextRequest,
    TextResult,
    TokenLogprob,
)
from providers.echo import Echo


async def answered(request: TextRequest) -> tuple[list[TextDelta], TextResult, int]:
    """What it told meanwhile, its result, and how many words it counts for it."""
    events = [event async for event in Echo().run(Task(id=TaskId("t"), request=request, model=ModelId("echo")))]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert isinstance(finished.result, TextResult)
    return [each for each in events if isinstance(each, TextDelta)], finished.result, finished.usage.output_tokens


async def test_several_answers_are_told_apart_and_scored() -> None:
    told, result, words = await answered(TextRequest(prompt="one two", n=2, logprobs=1))
    assert [(each.text, each.answer) for each in told] == [("one", 0), ("one", 1), (" two", 0), (" two", 1)]
    assert [answer.text for answer in result.answers] == ["one two", "one two"]
    assert [chosen.top for chosen in result.logprobs] == [(TokenLogprob(b"one", 0.0),), (TokenLogprob(b" two", 0.0),)]
    assert words == 4


async def test_json_is_made_of_what_was_said_and_no_other_format_is_promised() -> None:
    _, result, _ = await answered(TextRequest(prompt="one é", response_format=ResponseFormat("json_object")))
    assert json.loads(result.text) == {"said": "one é"}
    with pytest.raises(InputInvalid, match=r"params\.response_format: is a regex"):
        await answered(TextRequest(prompt="one", response_format=ResponseFormat("regex", "a")))
