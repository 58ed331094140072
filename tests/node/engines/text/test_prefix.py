"""The beginning of a prompt that another slot holds is copied, and changes no answer."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CPU, Desk, greedy, spec_of

from node.engines.text import load
from node.engines.text.prefix import donor, shared
from protos.types import TaskId

SYSTEM = "You are a helper who answers in short words."
PROMPTS = [f"{SYSTEM[: 20 + 8 * (i % 4)]} {i * 7}" for i in range(8)]


def test_the_slot_that_holds_most_of_the_beginning_is_taken() -> None:
    assert donor([*range(40)], [[*range(20)], [*range(30), 0], [9] * 40]) == (1, 30)


def test_a_short_beginning_is_computed() -> None:
    assert donor([*range(40)], [[*range(15)]]) == (0, 0)


def test_the_last_token_of_a_prompt_is_computed() -> None:
    assert donor([*range(40)], [[*range(60)]]) == (0, 39)


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 50))
def test_shared_counts_equal_tokens(a: list[int], b: list[int], most: int) -> None:
    equal = [x == y for x, y in zip(a, b, strict=False)]
    assert shared(a, b, most) == min(most, ([*equal, False]).index(False))


@pytest.fixture(scope="module")
def fresh_answers(llama_path: str) -> list[str]:
    """By an engine that has seen nothing before, each."""
    return [Desk(load(spec_of(llama_path), CPU)).alone("fresh", greedy(prompt, 8)).text for prompt in PROMPTS]


@pytest.fixture(scope="module")
def crowd(llama_path: str) -> Desk:
    return Desk(load(spec_of(llama_path, step_tokens=24), CPU))


def test_a_repeated_prompt_is_counted_as_cached(desk: Desk) -> None:
    answers = [desk.alone(name, greedy(SYSTEM, 4)).text for name in ("first", "second")]
    assert answers[0] == answers[1]
    assert desk.usage["second"].cached_tokens == desk.usage["second"].input_tokens - 1


def test_those_who_come_at_once_share_what_the_first_computes(llama_path: str) -> None:
    desk = Desk(load(spec_of(llama_path, step_tokens=64), CPU))
    for i in range(3):
        assert desk.admit(str(i), greedy(f"{SYSTEM} {i}", 4))
    desk.run()
    assert [desk.usage[str(i)].cached_tokens > len(SYSTEM) // 2 for i in range(3)] == [False, True, True]


moves = st.lists(st.one_of(st.integers(0, 7), st.just("step"), st.tuples(st.just("cancel"), st.integers(0, 7))))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=moves)
def test_shared_beginnings_change_no_answer(crowd: Desk, fresh_answers: list[str], plan: list[object]) -> None:
    crowd.done.clear()
    seated: set[int] = set()
    for move in plan:
        if isinstance(move, int) and move not in seated and str(move) not in crowd.done:
            seated |= {move} if crowd.admit(str(move), greedy(PROMPTS[move], 8)) else set()
        elif isinstance(move, tuple):
            crowd.engine.cancel(TaskId(str(move[1])))
        elif crowd.engine.seated:
            crowd.step()
    crowd.run()
    assert all(result.text == fresh_answers[int(name)] for name, result in crowd.done.items())
