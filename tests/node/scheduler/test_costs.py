"""Behaviour of the learned step costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.scheduler.costs import StepCosts

SIZES = st.lists(st.integers(1, 4096), min_size=2, max_size=60)


def test_nothing_is_known_before_the_first_step() -> None:
    costs = StepCosts()
    assert costs.seconds(8) is None
    assert costs.units_within(0.05) is None


def test_steps_of_one_size_are_taken_as_proportional() -> None:
    costs = StepCosts()
    for _ in range(5):
        costs.observe(10, 0.02)
    assert costs.seconds(20) == pytest.approx(0.04)
    assert costs.units_within(0.05) == 25


@given(
    sizes=SIZES.filter(lambda sizes: max(sizes) > 2 * min(sizes)),
    per_unit=st.floats(1e-5, 1e-2),
    fixed=st.floats(0, 0.1),
)
def test_an_affine_cost_is_learned_exactly(sizes: list[int], per_unit: float, fixed: float) -> None:
    costs = StepCosts()
    for size in sizes * 3:
        costs.observe(size, per_unit * size + fixed)
    assert costs.seconds(1000) == pytest.approx(per_unit * 1000 + fixed, rel=1e-3, abs=1e-6)


@given(steps=st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 10.0)), min_size=1, max_size=40))
def test_the_cost_is_never_negative_and_never_falls_with_size(steps: list[tuple[int, float]]) -> None:
    costs = StepCosts()
    for units, seconds in steps:
        costs.observe(units, seconds)
    small, large = costs.seconds(1), costs.seconds(4096)
    assert small is not None
    assert large is not None
    assert 0 <= small <= large


def test_a_step_may_always_have_one_unit() -> None:
    costs = StepCosts()
    for units in (1, 2, 4):
        costs.observe(units, 1.0 * units + 5.0)
    assert costs.units_within(0.05) == 1


def test_equally_slow_steps_of_all_sizes_set_no_bound() -> None:
    costs = StepCosts()
    for units in (1, 8, 64):
        costs.observe(units, 0.02)
    assert costs.units_within(0.05) is None


def test_a_machine_that_became_slower_is_noticed() -> None:
    costs = StepCosts()
    for _ in range(100):
        costs.observe(10, 0.01)
    for _ in range(200):
        costs.observe(10, 0.04)
    assert costs.seconds(10) == pytest.approx(0.04, rel=0.05)
