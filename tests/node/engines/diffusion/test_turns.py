"""Who sits in the next step: the most urgent stage, one size, whoever waits longest, within the row cap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engines.diffusion.turns import Key, Stage, Waiting, pick, row_cap, worthwhile
from node.scheduler.costs import StepCosts

SMALL, LARGE = Key(Stage.DRAW, 64, 64), Key(Stage.DRAW, 128, 128)
keys = st.builds(Key, st.sampled_from(Stage), st.sampled_from([64, 128]), st.just(64))
waitings = st.lists(st.builds(Waiting, keys, st.integers(1, 2), st.integers(0, 9)), min_size=1, max_size=12)


def costs(per_row_s: float, fixed_s: float) -> StepCosts:
    learned = StepCosts()
    for rows in (1, 16, 2, 8):
        learned.observe(rows, fixed_s + per_row_s * rows)
    return learned


def urgency(one: Waiting) -> int:
    """A large picture that is shown tile by tile waits its turn among those that are drawn."""
    return min(one.key.stage, Stage.DRAW)


@given(waitings, st.integers(0, 8))
def test_those_picked_share_a_key_and_fit_or_are_one(waiting: list[Waiting], most: int) -> None:
    chosen = [waiting[place] for place in pick(waiting, lambda _: most)]
    assert len({one.key for one in chosen}) == 1
    assert urgency(chosen[0]) == min(map(urgency, waiting))
    assert len(chosen) == 1 or sum(one.rows for one in chosen) <= most


@given(waitings)
def test_whoever_waits_longest_in_the_most_urgent_stage_is_picked(waiting: list[Waiting]) -> None:
    urgent = min(map(urgency, waiting))
    longest = min(one.served for one in waiting if urgency(one) == urgent)
    assert longest in {waiting[place].served for place in pick(waiting, lambda _: 1)}


def rounds(keys_of: list[Key], most: int, steps: int) -> list[list[int]]:
    """Who sits in each step, as the engine counts."""
    served, now, taken = [0] * len(keys_of), 0, []
    for _ in range(steps):
        chosen = pick([Waiting(key, 2, at) for key, at in zip(keys_of, served, strict=True)], lambda _: most)
        taken.append(chosen)
        for place in chosen:
            now += 1
            served[place] = now
    return taken


def test_sizes_take_turns_though_one_has_many_more_pictures() -> None:
    assert rounds([SMALL, SMALL, SMALL, LARGE], 8, 4) == [[0, 1, 2], [3], [0, 1, 2], [3]]


def test_pictures_beyond_the_row_cap_take_turns() -> None:
    taken = [place for chosen in rounds([SMALL] * 3, 4, 9) for place in chosen]
    assert [taken.count(place) for place in range(3)] == [6, 6, 6]


def test_the_quantum_bounds_the_rows() -> None:
    assert row_cap(costs(0.010, 0.010), 0.05, 32) == 4


def test_a_linear_cost_caps_the_rows_also_when_nobody_else_waits() -> None:
    assert row_cap(costs(0.010, 0.0), None, 32) == 8


def test_a_large_fixed_cost_lets_the_batch_grow_to_the_ceiling() -> None:
    assert row_cap(costs(0.001, 0.030), None, 32) == 32


def test_rows_worth_while_give_nine_tenths_of_the_best_throughput() -> None:
    assert worthwhile(costs(0.001, 0.003)) == pytest.approx(27, rel=0.01)


def test_steps_of_one_size_teach_no_cap_so_that_larger_ones_are_tried() -> None:
    learned = StepCosts()
    for _ in range(9):
        learned.observe(8, 0.05)
    assert row_cap(learned, None, 32) == 32
    assert row_cap(learned, 0.05, 32) == 8  # but no longer than the quantum, as far as that is known


def test_nothing_learned_bounds_nothing() -> None:
    assert row_cap(None, 0.05, 32) == 32
    assert row_cap(StepCosts(), 0.05, 32) == 32
