"""Companies of text requests that come, leave and are cancelled, and the check that none changes another's answer."""

import json
import random
from typing import Any

import pytest
from hypothesis import strategies as st
from tiny import Desk

from node.engine import Engine
from protos.types import ResponseFormat, TaskId, TextRequest, TextResult

PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}, "is_in": {"type": "boolean"}},
    "required": ["age", "is_in"],
    "additionalProperties": False,
}
FORMATS = (
    ResponseFormat("json_schema", json.dumps(PERSON)),
    ResponseFormat("json_object"),
    ResponseFormat("regex", "(ab|cd){2,4}[0-9]"),
    ResponseFormat("grammar", 'start: WORD (" " WORD)*\nWORD: /[a-c]{1,3}/'),
)


requests = st.builds(
    TextRequest,
    prompt=st.text("abc xyz", min_size=0, max_size=30).map(lambda text: text + "!"),
    temperature=st.sampled_from([0.0, 0.8, 1.3]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 20]),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.9]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    logprobs=st.sampled_from([None, None, 0, 3]),
    n=st.sampled_from([1, 1, 1, 2, 4]),
    response_format=st.sampled_from([None, None, *FORMATS]),
    max_tokens=st.integers(1, 16),
    seed=st.integers(0, 1 << 40),
    stop=st.sampled_from([(), ("a", "Zq")]),
)


def said(result: TextResult) -> list[Any]:  # Any: of each answer its text, its end, its tokens
    return [
        (answer.text, answer.finish_reason, [each.token.data for each in answer.logprobs]) for answer in result.answers
    ]


def scores(result: TextResult) -> list[float]:
    chosen = [each for answer in result.answers for each in answer.logprobs]
    return [token.logprob for each in chosen for token in (each.token, *each.top)]


def check_answers(engine: Engine, asked: list[TextRequest], chances: int, other: Engine | None = None) -> None:
    """Seats and steps them as the chances say, cancels some, and asks the others again alone; of another engine, if that
    is given."""
    desk, chance = Desk(engine), random.Random(chances)
    second = Desk(other or engine)
    for i in range(len(asked)):  # an example that failed may have left them
        desk.engine.cancel(TaskId(f"t{i}"))
        second.engine.cancel(TaskId(f"alone-t{i}"))
    waiting = {f"t{i}": request for i, request in enumerate(asked)}
    doomed = [name for name in waiting if chance.random() < 0.2]
    while waiting or desk.engine.seated:
        while waiting and chance.random() < 0.6 and desk.admit(next(iter(waiting)), next(iter(waiting.values()))):
            waiting.pop(next(iter(waiting)))
        if desk.engine.seated:
            desk.step(chance.choice([None, None, 1e-9]))
        for name in doomed:
            if name not in waiting and chance.random() < 0.3:
                desk.engine.cancel(TaskId(name))
    together, told, scored = dict(desk.done), dict(desk.deltas), dict(desk.logprobs)
    assert {f"t{i}" for i in range(len(asked))} - set(doomed) <= set(together)
    for name, result in together.items():
        alone = second.alone(f"alone-{name}", asked[int(name[1:])])
        assert isinstance(alone, TextResult)
        assert said(result) == said(alone)
        assert scores(result) == pytest.approx(scores(alone), abs=1e-3)
        for number, answer in enumerate(result.answers):
            key = f"{name}#{number}" if number else name
            assert "".join(told.get(key, [])) == answer.text
            assert tuple(scored.get(key, [])) == answer.logprobs
