"""When a task that came now would get a seat."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.forecast import Experience, Met, Pace, Paces, quantiles, seat_free_s

TIMES = st.floats(1e-3, 100)
SECONDS = st.lists(st.floats(0, 100), max_size=20)


@pytest.mark.parametrize(
    ("seats", "seated_s", "waiting", "each_s", "expected_s"),
    [
        (2, [5.0], 0, 1.0, 0.0),
        (2, [5.0, 3.0], 0, 1.0, 3.0),
        (2, [5.0, 3.0], 1, 1.0, 4.0),
        (2, [5.0, 3.0], 1, 10.0, 5.0),
        (1, [2.0], 2, 3.5, 9.0),
        (1, [-1.0], 0, 1.0, 0.0),
        (2, [5.0, 3.0], 1000, 0.0, 3.0),
    ],
    ids=["a free seat", "the first to end", "one before", "a long one before", "one seat", "too long", "of no length"],
)
def test_the_wait_is_for_the_next_free_seat(
    seats: int, seated_s: Sequence[float], waiting: int, each_s: float, expected_s: float
) -> None:
    assert seat_free_s(seats, seated_s, waiting, each_s) == expected_s


@given(st.integers(1, 8), SECONDS, st.integers(0, 200), TIMES)
def test_the_wait_is_as_if_each_took_the_next_free_seat(
    seats: int, seated_s: list[float], waiting: int, each_s: float
) -> None:
    free_s = [*seated_s[:seats], *[0.0] * (seats - len(seated_s))]
    wait_s = seat_free_s(seats, seated_s[:seats], waiting, each_s)
    for _ in range(waiting):
        free_s[free_s.index(min(free_s))] += each_s
    assert wait_s == pytest.approx(min(free_s), abs=1e-6)


def learned(*held: tuple[Met, float]) -> Paces:
    paces = Paces()
    for met, held_s in held:
        paces = paces.plus(met, held_s)
    return paces


def test_the_first_task_of_all_is_expected_to_share_the_device_equally_with_other_models() -> None:
    assert Paces().of(Met(4.0)) == Pace(1.0)
    assert Paces().of(Met(4.0, mates=7, others=1)).stretch == 2.0


def test_a_seat_is_held_as_those_of_like_tasks_were() -> None:
    alone, crowded = Met(1.0), Met(1.0, mates=8)
    paces = learned(*[(alone, 1.0), (crowded, 4.0)] * 8)
    assert (paces.of(alone).held(2.0), paces.of(crowded).held(2.0)) == (2.0, 8.0)
    assert paces.of(Met(1.0, mates=15)).stretch == 4.0
    assert paces.of(Met(1.0, others=0, mates=1)).stretch == 1.0


def test_small_tasks_that_wait_for_large_ones_are_stretched_more() -> None:
    small, large = Met(0.1, mates=3), Met(10.0, mates=3)
    paces = learned(*[(small, 1.0), (large, 11.0)] * 8)
    assert paces.of(small).stretch == pytest.approx(10.0)
    assert paces.of(large).stretch == pytest.approx(1.1)


def test_what_mates_were_expected_to_take_is_not_learned_again() -> None:
    paces = learned(*[(Met(1.0, mates=1, beside_s=1.0), 3.0), (Met(1.0, mates=1, beside_s=0.2), 2.2)] * 8)
    assert paces.of(Met(1.0, mates=1)).stretch == pytest.approx(2.0)


def test_one_outlier_moves_nothing() -> None:
    met = Met(1.0)
    usual = learned(*[(met, 2.0)] * 10)
    assert usual.plus(met, 500.0).of(met).stretch == 2.0


def test_how_it_was_is_forgotten() -> None:
    met = Met(1.0)
    paces = learned(*[(met, 1.0)] * 100, *[(met, 3.0)] * 10)
    assert paces.of(met).stretch == 3.0


def test_one_of_which_nothing_was_expected_says_nothing() -> None:
    assert learned((Met(0.0), 5.0)) == Paces()


def test_who_is_past_the_usual_time_goes_on_as_long_as_the_ends_are_random() -> None:
    met = Met(1.0)
    punctual = learned(*[(met, 2.0)] * 40).of(met)
    assert punctual.lefts([(1.0, 0.5)])[0] == 1.5
    assert punctual.lefts([(1.0, 5.0)])[0] == 0.0
    erratic = learned(*[(met, each) for each in (0.5, 1.0, 2.0, 3.0, 3.5)] * 8).of(met)
    assert 0.3 < erratic.spread <= 1.0
    assert erratic.lefts([(1.0, 50.0)])[0] == erratic.held(1.0) * erratic.spread


@given(
    st.lists(st.tuples(TIMES, st.integers(0, 64), st.integers(0, 3), TIMES), max_size=60),
    st.builds(Met, TIMES, st.integers(0, 64), st.integers(0, 3)),
    st.floats(0, 10),
)
def test_what_is_left_is_never_negative_nor_more_than_the_whole(
    past: list[tuple[float, int, int, float]], met: Met, seated_s: float
) -> None:
    pace = learned(*((Met(*each[:3]), each[3]) for each in past)).of(met)
    stretches = [each[3] / each[0] for each in past] + [1.0 + met.others]
    assert min(stretches) <= pace.stretch <= max(stretches)
    assert 0 <= pace.lefts([(met.expected_s, seated_s)])[0] <= pace.held(met.expected_s) + 1e-9
    assert 0 <= pace.spread <= 1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1e-3, 1)), min_size=1, max_size=20), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_and_grows_with_its_share(
    weighed: list[tuple[float, float]], share: float
) -> None:
    weighed.sort()
    half, found = quantiles(weighed, share / 2, share)
    assert weighed[0][0] <= found <= weighed[-1][0]
    assert half <= found


def test_no_more_is_kept_than_decides() -> None:
    experience = Experience()
    for number in range(1000):
        experience = experience.plus(Met(1.0), float(number))
    assert (len(experience.seen), experience.seen[0][-1]) == (32, 999.0)


def test_a_free_seat_is_taken_as_soon_as_those_before_were_in_such_company() -> None:
    paces = Paces()
    for _ in range(8):
        paces = paces.seated(Met(1.0), 0.0).seated(Met(1.0, mates=6), 0.5)
    assert (paces.before_s(Met(1.0)), paces.before_s(Met(1.0, mates=6))) == (0.0, 0.5)
    assert Paces().before_s(Met(1.0, mates=6)) == 0.0


def test_the_usual_task_is_the_mean_of_those_that_ended() -> None:
    assert Paces().usual_s == 0.0
    assert learned((Met(3.0), 1.0)).usual_s == 3.0


def test_what_comes_after_the_seat_is_a_mean_that_forgets() -> None:
    paces = Paces().sent(1.0)
    assert paces.after_s == 1.0
    for _ in range(200):
        paces = paces.sent(3.0)
    assert paces.after_s == pytest.approx(3.0, rel=1e-3)
