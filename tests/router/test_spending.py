"""Money as it is counted: periods, rounding, and when a budget has room."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.spending import (
    MICRO,
    BudgetExceeded,
    BudgetReserved,
    Purse,
    bounds_of,
    check,
    day_of,
    micro_of,
    month_of,
    shown,
    usd,
)

NOW = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC).timestamp()
amounts = st.integers(0, 10**9)


def a_purse(limit: int, spent: int = 0, reserved: int = 0) -> Purse:
    return Purse(
        owner="organization a", period="2026-11", limit_micro=limit, spent_micro=spent, reserved_micro=reserved
    )


@given(st.integers(0, 4_000_000_000))
def test_a_moment_lies_in_its_day_and_its_month(second: int) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    for period in (day_of(second), month_of(second)):
        start, end = bounds_of(period)
        assert start <= moment < end


def test_a_period_ends_where_the_next_begins() -> None:
    assert bounds_of("2026-12")[1] == bounds_of("2027-01")[0]
    assert bounds_of("2024-02-29")[1] == bounds_of("2024-03-01")[0]


@given(st.integers(0, 10**12))
def test_dollars_and_microdollars_are_the_same_amount(micro: int) -> None:
    assert micro_of(usd(micro)) == micro


@pytest.mark.parametrize(("amount", "micro"), [(0.1, 100_000), (1e-7, 0), (0.0000019, 1), (20.0, 20 * MICRO)])
def test_a_limit_is_never_more_than_was_said(amount: float, micro: int) -> None:
    assert micro_of(amount) == micro


@pytest.mark.parametrize(("micro", "text"), [(0, "$0.00"), (120_000, "$0.12"), (1_000_001, "$1.000001")])
def test_amounts_are_shown_exactly(micro: int, text: str) -> None:
    assert shown(micro) == text


@given(amounts, amounts, amounts, amounts)
def test_a_call_passes_exactly_when_all_that_may_be_spent_fits(
    limit: int, spent: int, reserved: int, bound: int
) -> None:
    purse = a_purse(limit, spent, reserved)
    if spent + reserved + bound <= limit:
        check([purse], bound, NOW)
        return
    final = spent + bound > limit
    with pytest.raises(BudgetExceeded if final else BudgetReserved) as refused:
        check([a_purse(10**12), purse], bound, NOW)
    assert refused.value.retryable is not final


def test_a_spent_budget_says_how_much_of_what_and_when_it_is_whole_again() -> None:
    with pytest.raises(
        BudgetExceeded, match=r"organization a has spent \$0.09 of its budget of \$0.10 for 2026-11.*may cost \$0.02"
    ) as refused:
        check([a_purse(100_000, 90_000)], 20_000, NOW)
    assert refused.value.retry_after_s == bounds_of("2026-11")[1].timestamp() - NOW
