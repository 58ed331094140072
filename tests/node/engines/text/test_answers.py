"""Penalties, log probabilities, several answers and formats in the running engine, beside whoever else comes and goes."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from company import FORMATS, check_answers, requests
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tiny import CHARACTERS, Desk, greedy

from node.engine import Engine
from protos.errors import InputInvalid
from protos.types import ResponseFormat, TaskId, TextRequest

# ---- whoever comes and goes ----

company = given(st.lists(requests, min_size=2, max_size=7), st.integers(0, 1 << 32))
phases = (Phase.reuse, Phase.generate)  # to shrink a company takes minutes


@settings(max_examples=10, phases=phases)
@company
def test_no_answer_depends_on_who_else_comes_leaves_or_is_cancelled(
    llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(llama_engine, asked, chances)


@pytest.mark.long
@settings(max_examples=300, phases=phases)
@company
def test_no_answer_depends_on_any_of_many_companies(
    llama_engine: Engine, asked: list[TextRequest], chances: int
) -> None:
    check_answers(llama_engine, asked, chances)


# ---- penalties ----


def test_frequency_and_presence_penalties_count_the_answer_and_not_the_prompt(desk: Desk) -> None:
    plain = desk.alone("plain", greedy("aaaa bbbb", 30)).text
    penalised = desk.alone("penalised", greedy("aaaa bbbb", 30, frequency_penalty=2.0, presence_penalty=2.0)).text
    assert penalised[0] == plain[0]  # nothing was said before it
    assert max(Counter(penalised).values()) < max(Counter(plain).values())


# ---- log probabilities ----


def test_log_probabilities_come_with_each_shown_token_and_their_alternatives(desk: Desk) -> None:
    result = desk.alone("asked", greedy("tell", 12, logprobs=3, repetition_penalty=1.5))
    assert b"".join(chosen.token.data for chosen in result.logprobs).decode() == result.text
    for chosen in result.logprobs:
        likeliest = [token.logprob for token in chosen.top]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        assert likeliest[0] <= 0
        assert chosen.token.logprob <= likeliest[0]
    plain = desk.alone("not asked", greedy("tell", 12, repetition_penalty=1.5))
    assert (plain.text, plain.logprobs) == (result.text, ())


def test_the_tokens_of_a_stop_string_have_no_log_probabilities(desk: Desk) -> None:
    full = desk.alone("full", greedy("stop test", 30)).text
    cut = desk.alone("cut", greedy("stop test", 30, logprobs=0, stop=(full[9:13],)))
    assert b"".join(chosen.token.data for chosen in cut.logprobs).decode() == cut.text
    assert all(chosen.top == () for chosen in cut.logprobs)


# ---- several answers ----


def test_several_answers_read_the_prompt_once_and_are_each_its_own(desk: Desk) -> None:
    request = TextRequest(prompt="tell me of it", max_tokens=16, seed=5, n=4)
    result = desk.alone("four", request)
    assert len({answer.text for answer in result.answers}) == 4
    assert sum(desk.sizes) == len("u:tell me of it\na:") + 4 * 15
    assert desk.usage["four"].input_tokens == len("u:tell me of it\na:")
    assert desk.usage["four"].output_tokens == 4 * 16


def test_the_first_of_several_answers_is_the_one_that_would_have_come_alone(desk: Desk) -> None:
    one, two, four = (
        desk.alone(f"{n}", TextRequest(prompt="tell", max_tokens=16, seed=5, n=n)).answers for n in (1, 2, 4)
    )
    assert [answer.text for answer in four[:2]] == [answer.text for answer in two]
    assert one[0].text == four[0].text


def test_who_asks_for_several_takes_all_their_seats_or_waits(desk: Desk) -> None:
    assert desk.admit("one", greedy("hi", 3))
    several = TextRequest(prompt="hi there", max_tokens=5, n=3, seed=1)
    assert desk.admit("three", several)
    assert not desk.admit("late", greedy("hi", 2))  # though only two slots are in use before the prompt is read
    assert desk.engine.seated == 2
    desk.engine.cancel(TaskId("one"))
    assert not desk.admit("more", TextRequest(prompt="hi", max_tokens=5, n=2))
    assert desk.admit("late", greedy("hi", 2))
    desk.run()
    assert set(desk.done) == {"three", "late"}
    assert desk.engine.seated == 0


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_cancelling_frees_the_seats_of_all_answers(desk: Desk, steps: int) -> None:
    desk.admit("stays", greedy("stays", 12))
    desk.admit("goes", TextRequest(prompt="goes", max_tokens=12, n=3, seed=3))
    for _ in range(steps):
        desk.step()
    desk.engine.cancel(TaskId("goes"))
    assert desk.engine.seated == 1
    assert desk.admit("next", TextRequest(prompt="next", max_tokens=4, n=3, seed=3))
    desk.run()
    assert set(desk.done) == {"stays", "next"}
    assert desk.done["stays"] == desk.alone("again", greedy("stays", 12))


def test_more_answers_than_seats_are_refused_with_the_number(desk: Desk) -> None:
    with pytest.raises(InputInvalid, match="n: is 5, and the model has 4 seats"):
        desk.prepare("many", TextRequest(prompt="hi", n=5))


def test_one_poisoned_answer_ends_its_request_and_leaves_no_trace(desk: Desk) -> None:
    desk.admit("mate", greedy("mate", 12))
    desk.admit("bad", TextRequest(prompt="bad", max_tokens=12, n=2, seed=1))
    while len(desk.engine._seats) < 3:
        desk.step()
    slot = next(i for i, seat in enumerate(desk.engine._seats) if seat.answer == 1)
    desk.engine._pool._values[0][slot, :, 0] = float("nan")
    desk.run()
    assert set(desk.failed) == {"bad"}
    assert desk.done["mate"] == desk.alone("again", greedy("mate", 12))
    assert all(tensor.isfinite().all() for tensor in desk.engine._pool._values)


# ---- formats ----


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_is_valid_by_its_schema_and_ends_where_that_allows(desk: Desk, seed: int) -> None:
    request = TextRequest(prompt="who", max_tokens=60, seed=seed, response_format=FORMATS[0], logprobs=0)
    result = desk.alone("person", request)
    assert result.finish_reason == "stop"
    person = json.loads(result.text)
    assert set(person) == {"age", "is_in"}
    assert 0 <= person["age"] <= 150
    assert isinstance(person["is_in"], bool)
    assert b"".join(chosen.token.data for chosen in result.logprobs).decode() == result.text


@pytest.mark.parametrize(
    ("response_format", "pattern"),
    [(FORMATS[2], r"(ab|cd){2,4}[0-9]"), (FORMATS[3], r"[a-c]{1,3}( [a-c]{1,3})*"), (ResponseFormat("grammar", 'root ::= "yes" | "no"'), "yes|no")],
    ids=["regex", "lark", "gbnf"],
)  # fmt: skip
def test_an_answer_keeps_to_a_pattern_or_a_grammar(desk: Desk, response_format: ResponseFormat, pattern: str) -> None:
    for seed in range(4):
        request = TextRequest(prompt="go", max_tokens=60, seed=seed, response_format=response_format)
        result = desk.alone(f"kept{seed}", request)
        if result.finish_reason == "stop":
            assert re.fullmatch(pattern, result.text)
        assert set(result.text) <= set(CHARACTERS)


def test_json_has_a_space_or_a_new_line_between_its_parts_and_no_more(desk: Desk) -> None:
    for seed in range(5):
        request = TextRequest(prompt="who", max_tokens=85, seed=seed, temperature=2.0, response_format=FORMATS[0])
        result = desk.alone(f"spaced{seed}", request)
        assert all(re.fullmatch(r" |\n[ \t]{0,16}", gap) for gap in re.findall(r"\s+", result.text))


def test_a_format_is_cut_where_the_tokens_run_out(desk: Desk) -> None:
    result = desk.alone("cut", greedy("who", 3, response_format=FORMATS[0]))
    assert (result.text.replace(" ", "")[:2], len(result.text), result.finish_reason) == ('{"', 3, "length")


def test_a_format_that_allows_no_more_ends_the_answer_without_an_end_token(desk: Desk) -> None:
    result = desk.alone("yes", greedy("go", 30, response_format=ResponseFormat("regex", "yes, yes")))
    assert (result.text, result.finish_reason) == ("yes, yes", "stop")
    assert desk.usage["yes"].output_tokens == len("yes, yes")


def test_the_same_format_is_compiled_once(desk: Desk) -> None:
    first, second = (desk.prepare(name, greedy("go", response_format=FORMATS[0])).payload.format for name in "ab")
    assert first is second


@pytest.mark.parametrize(
    ("response_format", "message"),
    [
        (
            ResponseFormat("json_schema", '{"type": "array", "uniqueItems": true}'),
            'Unimplemented keys: ["uniqueItems"]',
        ),
        (ResponseFormat("json_schema", "{"), "the JSON schema cannot be read: Expecting property name"),
        (ResponseFormat("json_schema", "false"), "the JSON schema cannot be"),
        (ResponseFormat("regex", "("), "unclosed group"),
        (ResponseFormat("grammar", "start: nothing"), 'unknown name: "nothing"'),
        (ResponseFormat("grammar", "root := ("), "the grammar cannot be read"),
        (ResponseFormat("regex", "a" * 65_537), "has 65537 characters: send at most 65536"),
    ],
)
def test_a_format_that_cannot_be_kept_to_is_refused_with_the_reason(
    desk: Desk, response_format: ResponseFormat, message: str
) -> None:
    with pytest.raises(InputInvalid) as caught:
        desk.prepare("bad", greedy("go", response_format=response_format))
    (error,) = caught.value.details["errors"]
    assert error["path"] == "response_format"
    assert message in error["message"]


def test_a_format_that_cannot_go_on_fails_its_request_alone(desk: Desk) -> None:
    desk.admit("mate", greedy("mate", 8))
    desk.admit("broken", greedy("go", 8, response_format=FORMATS[2], n=2))
    while len(desk.engine._seats) < 3:
        desk.step()
    seat = desk.engine._seats[2]
    seat._matcher.allowed = np.arange(len(CHARACTERS) + 1) == CHARACTERS.index("~") + 1  # no token of the pattern
    desk.run()
    assert "response_format: the answer cannot go on in it" in desk.failed["broken"].message
    assert set(desk.done) == {"mate"}
