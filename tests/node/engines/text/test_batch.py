"""The plan of a step is fair, bounded and always moves."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.batch import MIN_STEP_TOKENS, Row, budget_of, plan

rows = st.lists(st.builds(Row, pending=st.one_of(st.just(1), st.integers(1, 60)), served=st.integers(0, 9), arrival=st.integers(0, 9)), min_size=1, max_size=20)  # fmt: skip


@given(rows, st.integers(1, 64))
def test_a_step_moves_and_stays_within_its_budget(rows: list[Row], budget: int) -> None:
    given_tokens = plan(rows, budget)
    assert 1 <= sum(given_tokens) <= budget
    assert all(0 <= count <= row.pending for count, row in zip(given_tokens, rows, strict=True))


@given(rows, st.integers(1, 64))
def test_no_budget_is_left_while_a_row_could_use_it(rows: list[Row], budget: int) -> None:
    running = sum(row.pending == 1 for row in rows)
    fresh = sum(row.pending for row in rows if row.pending > 1)
    assert sum(plan(rows, budget)) == min(budget, running + fresh)


def test_running_requests_come_before_new_ones() -> None:
    assert plan([Row(30, 0, 0), Row(1, 5, 1), Row(1, 5, 2)], 16) == [14, 1, 1]


def test_new_requests_are_prefilled_in_order_of_arrival() -> None:
    assert plan([Row(30, 0, 7), Row(10, 0, 3)], 16) == [6, 10]


def test_a_budget_that_the_running_fill_keeps_a_quarter_for_the_new() -> None:
    assert plan([Row(30, 0, 9), *(Row(1, 3, i) for i in range(8))], 8) == [2, 1, 1, 1, 1, 1, 1, 0, 0]


def test_when_not_all_running_fit_those_that_waited_longest_go_first() -> None:
    assert plan([Row(1, 4, 0), Row(1, 3, 1), Row(1, 2, 2)], 2) == [0, 1, 1]


def test_a_tight_quantum_makes_a_smaller_step_but_not_below_the_minimum() -> None:
    assert budget_of(512, None) == 512
    assert budget_of(512, 100) == 100
    assert budget_of(512, 1) == MIN_STEP_TOKENS
    assert budget_of(4, 1) == 4
