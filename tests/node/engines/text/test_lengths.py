"""How long the next answer should be, from the last ones and its limit."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.lengths import Length, Lengths, expected_tokens

LENGTHS = st.lists(st.builds(Length, tokens=st.integers(1, 4096), was_cut=st.booleans()))


def test_a_model_that_has_not_answered_is_expected_to_say_a_paragraph_whatever_the_limit() -> None:
    assert (Lengths().expected(4096), Lengths().expected(16)) == (100, 16)


def test_short_answers_are_expected_to_be_short_whatever_the_limit() -> None:
    lengths = Lengths()
    lengths.observe(10, was_cut=False)
    lengths.observe(20, was_cut=False)
    assert (lengths.expected(512), lengths.expected(16)) == (15, 13)


def test_an_answer_that_was_cut_would_have_filled_a_higher_limit() -> None:
    assert expected_tokens([Length(16, was_cut=True)], 64) == 64


def test_the_last_answers_decide() -> None:
    lengths = Lengths()
    for _ in range(100):
        lengths.observe(1, was_cut=False)
    for _ in range(64):
        lengths.observe(50, was_cut=False)
    assert lengths.expected(512) == 50


@given(LENGTHS, st.integers(1, 4096))
def test_no_more_is_expected_than_is_allowed_and_never_less_than_a_token(past: list[Length], limit: int) -> None:
    assert 1 <= expected_tokens(past, limit) <= limit
