"""When a task that came now would get a seat."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.forecast import Crowd, Pace, Paces, seat_free_s

TIMES = st.floats(1e-6, 100)
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


def test_who_is_past_the_usual_time_goes_on_as_long_as_the_ends_are_random() -> None:
    punctual = Pace().plus(1.0, 2.0).plus(1.0, 2.0)
    assert punctual.left(1.0, 0.5) == 1.5
    assert punctual.left(1.0, 5.0) == pytest.approx(0.0, abs=1e-9)
    erratic = Pace()
    for number in range(100):
        erratic = erratic.plus(1.0, 10.0 if number % 4 == 0 else 0.1)
    assert erratic.spread == 1.0
    assert erratic.left(1.0, 50.0) == erratic.held(1.0)


@given(st.lists(st.tuples(st.just(0.0) | TIMES, st.just(0.0) | TIMES), max_size=30), st.floats(0, 10), st.floats(0, 10))
def test_what_is_left_is_never_negative_nor_more_than_the_whole(
    past: list[tuple[float, float]], expected_s: float, seated_s: float
) -> None:
    pace = Pace()
    for expected, held in past:
        pace = pace.plus(expected, held)
    assert 0 <= pace.left(expected_s, seated_s) <= pace.held(expected_s) + 1e-9
    assert 0 <= pace.spread <= 1


def test_each_kind_of_crowd_has_its_own_pace() -> None:
    paces = Paces().plus(Crowd(1), 1.0, 1.0).plus(Crowd(8), 1.0, 4.0)
    assert [paces.of(Crowd(seated)).stretch for seated in (1, 8, 15)] == [1.0, 4.0, 4.0]


def test_an_unknown_crowd_goes_by_the_likest_and_by_the_share_of_the_device() -> None:
    paces = Paces().plus(Crowd(1), 1.0, 1.0).plus(Crowd(16), 1.0, 6.0)
    assert paces.of(Crowd(12)).stretch == 6.0
    assert paces.of(Crowd(5)).stretch == 6.0  # equally unlike: rather long than short
    assert paces.of(Crowd(1, others=2)).stretch == 3.0
    assert Paces().of(Crowd(4, others=1)).stretch == 2.0


def test_the_usual_task_is_the_mean_of_those_that_ended() -> None:
    assert Pace().usual_s == 0.0
    assert Pace().plus(3.0, 1.0).usual_s == 3.0


def test_what_comes_after_the_seat_is_a_mean_that_forgets() -> None:
    paces = Paces().sent(1.0)
    assert paces.after_s == 1.0
    for _ in range(200):
        paces = paces.sent(3.0)
    assert paces.after_s == pytest.approx(3.0, rel=1e-3)
