"""Tokens without a tokenizer: near enough to say a price, and a bound that holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.tokens import expected_tokens, most_tokens

# What cl100k_base makes of them.
COUNTED = [
    ("Hello, world!", 4),
    ("The quick brown fox jumps over the lazy dog.", 10),
    ("def add(a: int, b: int) -> int:\n    return a + b\n", 19),
    ("tiktoken is great!", 6),
]


@pytest.mark.parametrize(("text", "tokens"), COUNTED)
def test_prose_and_code_are_near_what_a_tokenizer_makes_of_them(text: str, tokens: int) -> None:
    assert abs(expected_tokens([text]) - tokens) <= 2


def test_nothing_is_no_token() -> None:
    assert expected_tokens([]) == expected_tokens([""]) == 0


@given(st.lists(st.text(max_size=50), max_size=5))
def test_the_bound_holds_for_any_text(texts: list[str]) -> None:
    assert expected_tokens(texts) <= most_tokens(texts)
    assert most_tokens(texts) >= sum(len(text.encode()) for text in texts)
