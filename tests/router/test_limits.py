"""The token bucket: never more than its rate, and whoever waits as long as it was told may go on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits import Bucket, Rate, RateLimits, refused, take

rates = st.floats(0.01, 10_000).map(Rate)
gaps = st.lists(st.floats(0, 10), min_size=1, max_size=100)


@given(rates, gaps)
def test_in_any_stretch_of_time_no_more_pass_than_the_burst_and_the_rate_allow(rate: Rate, gaps: list[float]) -> None:
    bucket, now, passed = None, 0.0, []
    for gap in gaps:
        now += gap
        taken = take(bucket, rate, now)
        bucket = taken.bucket
        if taken.retry_after_s is None:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= rate.burst + rate.per_s * (passed[last] - passed[first]) + 1e-6


@given(rates, gaps)
def test_whoever_waits_as_long_as_it_was_told_passes(rate: Rate, gaps: list[float]) -> None:
    bucket, now = None, 0.0
    for gap in gaps:
        now += gap
        taken = take(bucket, rate, now)
        bucket = taken.bucket
        if taken.retry_after_s is not None:
            assert taken.retry_after_s > 0
            assert take(bucket, rate, now + taken.retry_after_s).retry_after_s is None


@given(rates, gaps)
def test_what_is_told_is_within_the_bucket(rate: Rate, gaps: list[float]) -> None:
    bucket, now = None, 0.0
    for gap in gaps:
        now += gap
        taken = take(bucket, rate, now)
        bucket = taken.bucket
        assert 0 <= taken.remaining <= taken.limit
        assert 0 <= taken.reset_s <= rate.burst / rate.per_s + 1e-9


def test_a_refused_request_takes_nothing() -> None:
    empty = Bucket(tokens=0.5, at=10.0)
    taken = take(empty, Rate(2.0), 10.0)
    assert (taken.bucket, taken.remaining, taken.retry_after_s) == (empty, 0, 0.25)


def test_a_rate_under_one_still_lets_one_through() -> None:
    taken = take(None, Rate(0.5), 0.0)
    assert (taken.retry_after_s, taken.limit, taken.reset_s) == (None, 1, 2.0)
    assert take(taken.bucket, Rate(0.5), 0.0).retry_after_s == 2.0


def test_keys_have_buckets_of_their_own() -> None:
    limits = RateLimits(lambda: 0.0)
    assert limits.take("a", Rate(1.0)).retry_after_s is None
    assert limits.take("a", Rate(1.0)).retry_after_s == 1.0
    assert limits.take("b", Rate(1.0)).retry_after_s is None


def test_the_refusal_says_the_rate_and_the_wait() -> None:
    error = refused(Rate(5.0), 0.2)
    assert (error.retry_after_s, "5 requests a second" in error.message) == (0.2, True)


@pytest.mark.parametrize("per_s", [0.1, 1.0, 3.5, 500.0])
def test_an_idle_key_has_its_whole_burst_again(per_s: float) -> None:
    rate = Rate(per_s)
    spent = Bucket(0.0, 0.0)
    assert take(spent, rate, 1e6).remaining == int(rate.burst - 1)
