"""When a task that came now would get a seat."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.forecast import Pace, seat_free_s

SECONDS = st.lists(st.floats(0, 100), max_size=20)


@pytest.mark.parametrize(
    ("seats", "seated_s", "waiting_s", "expected_s"),
    [
        (2, [5.0], [], 0.0),
        (2, [5.0, 3.0], [], 3.0),
        (2, [5.0, 3.0], [1.0], 4.0),
        (2, [5.0, 3.0], [10.0], 5.0),
        (1, [2.0], [3.0, 4.0], 9.0),
        (1, [-1.0], [], 0.0),
    ],
    ids=["a free seat", "the first to end", "one before", "a long one before", "one seat", "longer than expected"],
)
def test_the_wait_is_for_the_next_free_seat(
    seats: int, seated_s: Sequence[float], waiting_s: Sequence[float], expected_s: float
) -> None:
    assert seat_free_s(seats, seated_s, waiting_s) == expected_s


@given(st.integers(1, 8), SECONDS, SECONDS)
def test_it_is_never_longer_than_one_after_the_other_and_never_shorter_with_more_before(
    seats: int, seated_s: list[float], waiting_s: list[float]
) -> None:
    seated_s = seated_s[:seats]
    wait_s = seat_free_s(seats, seated_s, waiting_s)
    assert 0 <= wait_s <= sum(seated_s) + sum(waiting_s) + 1e-6
    assert seat_free_s(seats, seated_s, [*waiting_s, 1.0]) >= wait_s


def test_the_pace_is_what_seats_were_held_over_what_was_expected() -> None:
    assert Pace().stretch == 1.0
    assert Pace().plus(4.0, 1.0).stretch == 0.25


def test_the_pace_forgets_how_it_was() -> None:
    pace = Pace().plus(1.0, 1.0)
    for _ in range(200):
        pace = pace.plus(1.0, 3.0)
    assert pace.stretch == pytest.approx(3.0, rel=1e-3)
