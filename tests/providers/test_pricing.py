"""What a use costs: exact to the microdollar, and never more than what was held before the call."""

import datetime
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.types import AudioRequest, Blob, EmbeddingRequest, ImageRequest, Message, TaskRequest, TextRequest, Usage
from providers.pricing import (
    Bounds,
    Price,
    cost_micro,
    expected_usage,
    most_usage,
    output_limit,
    size_of,
    typical_cost_micro,
)

GPT_4O = Price(input_micro=2_500_000, cached_micro=1_250_000, output_micro=10_000_000)
TOKENS = st.integers(0, 10**7)
AMOUNTS = st.integers(0, 10**9)


def test_tokens_cost_their_price_and_the_sum_is_rounded_up_once() -> None:
    # 3 * 2.5 + 7 * 10 = 77.5 microdollars
    assert cost_micro(Usage(input_tokens=3, output_tokens=7), GPT_4O) == 78


def test_cached_and_reasoning_tokens_have_their_own_price() -> None:
    usage = Usage(input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000, reasoning_tokens=60_000)
    assert cost_micro(usage, GPT_4O) == 600_000 * 2.5 + 400_000 * 1.25 + 100_000 * 10
    thinking = Price(output_micro=10_000_000, reasoning_micro=2_000_000)
    assert cost_micro(usage, thinking) == 40_000 * 10 + 60_000 * 2


def test_more_cached_tokens_than_there_were_do_not_make_it_cheaper_than_all() -> None:
    usage = Usage(input_tokens=10, cached_tokens=1000)
    assert cost_micro(usage, Price(input_micro=2_000_000, cached_micro=1_000_000)) == 10


def test_pictures_cost_by_their_size() -> None:
    price = Price(image_micro=40_000, sizes={"1024x1792": 80_000})
    assert cost_micro(Usage(images=2), price, "1024x1792") == 160_000
    assert cost_micro(Usage(images=2), price) == 80_000


def test_sound_costs_by_the_second_and_decimals_are_exact() -> None:
    price = Price(minute_micro=6_000)
    assert cost_micro(Usage(audio_seconds=90), price) == 9_000
    assert cost_micro(Usage(audio_seconds=0.1), price) == 10  # 0.1 as a binary fraction is a little more


@given(st.builds(Usage, input_tokens=TOKENS, output_tokens=TOKENS), AMOUNTS, AMOUNTS)
def test_it_is_never_a_microdollar_less_nor_a_whole_one_more(usage: Usage, input_micro: int, output_micro: int) -> None:
    exact = Fraction(usage.input_tokens * input_micro + usage.output_tokens * output_micro, 1_000_000)
    assert cost_micro(usage, Price(input_micro=input_micro, output_micro=output_micro)) == ceil(exact)


@given(st.text(max_size=200))
def test_what_is_held_before_the_call_covers_what_is_expected(text: str) -> None:
    request = TextRequest(messages=(Message("system", text), Message("user", text)))
    expected, most = expected_usage(request, Bounds()), most_usage(request, Bounds())
    assert expected.input_tokens <= most.input_tokens
    assert expected.output_tokens == most.output_tokens
    # a tokenizer that makes a token of every byte is the worst there is
    assert most.input_tokens >= 2 * len(text.encode())


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (TextRequest(prompt="one two three four five", max_tokens=7), Usage(input_tokens=5, output_tokens=7)),
        (EmbeddingRequest(texts=("one two", "three")), Usage(input_tokens=3)),
        (ImageRequest(prompt="a red square", n=3), Usage(images=3)),
        (AudioRequest(audio=Blob(b"\0" * 32_000)), Usage(audio_seconds=2.0)),
    ],
)
def test_each_modality_has_an_expected_use(request_: TaskRequest, expected: Usage) -> None:
    assert expected_usage(request_, Bounds()) == expected


def test_pictures_charged_by_the_token_are_expected_as_tokens() -> None:
    bounds = Bounds(image_tokens={"1024x1024": 1056, "1536x1024": 1568})
    request = ImageRequest(prompt="a red square", width=1024, height=1024, n=2)
    assert expected_usage(request, bounds) == Usage(images=2, input_tokens=3, output_tokens=2112)
    assert expected_usage(ImageRequest(prompt="a red square"), bounds).output_tokens == 1568


def test_a_request_without_a_limit_gets_the_default_and_room_to_think() -> None:
    bounds = Bounds(max_output_tokens=4096, thinking_tokens=1000)
    assert output_limit(TextRequest(prompt="a"), Bounds()) == 512
    assert output_limit(TextRequest(prompt="a"), bounds) == 1512
    assert output_limit(TextRequest(prompt="a", max_tokens=9), bounds) == 9
    assert output_limit(TextRequest(prompt="a", max_tokens=9999), bounds) == 4096


def test_the_size_of_a_picture_is_both_its_sides() -> None:
    assert size_of(ImageRequest(prompt="a", width=1024, height=512)) == "1024x512"
    assert size_of(ImageRequest(prompt="a", width=1024)) == ""
    assert size_of(TextRequest(prompt="a")) == ""


@pytest.mark.parametrize(
    ("price", "bounds", "micro"),
    [
        (GPT_4O, Bounds(max_output_tokens=16_384), 500 * 2.5 + 512 * 10),
        (Price(input_micro=20_000), Bounds(), 10),
        (Price(image_micro=40_000), Bounds(), 40_000),
        (Price(minute_micro=6_000), Bounds(), 6_000),
        (Price(output_micro=40_000_000), Bounds(image_tokens={"1024x1024": 1056}), 42_240),
        (Price(as_of=datetime.date(2026, 1, 1)), Bounds(), 0),
    ],
)
def test_a_typical_request_has_a_cost_in_every_modality(price: Price, bounds: Bounds, micro: int) -> None:
    assert typical_cost_micro(price, bounds) == micro
