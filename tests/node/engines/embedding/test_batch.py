"""The plan of a step: bounded, fair by tokens, always moving."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.embedding.batch import Row, plan

rows = st.lists(
    st.builds(Row, lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8), served=st.integers(0, 9)),
    min_size=1,
    max_size=8,
)


@given(rows, st.integers(1, 100))
def test_a_step_takes_at_least_one_text_and_stays_within_its_budget(rows: list[Row], budget: int) -> None:
    taken = plan(rows, budget)
    assert all(0 <= count <= len(row.lengths) for count, row in zip(taken, rows, strict=True))
    tokens = [length for count, row in zip(taken, rows, strict=True) for length in row.lengths[:count]]
    assert sum(tokens) <= budget or len(tokens) == 1
    assert tokens


@given(rows)
def test_a_large_budget_takes_everything(rows: list[Row]) -> None:
    assert plan(rows, 10**6) == [len(row.lengths) for row in rows]


def test_a_request_of_one_text_does_not_wait_for_one_of_many() -> None:
    assert plan([Row([10] * 100, 0), Row([10], 5)], 50) == [4, 1]


def test_requests_share_a_step_by_tokens() -> None:
    assert plan([Row([20] * 9, 0), Row([5] * 9, 1)], 40) == [1, 4]


def test_who_was_served_longest_ago_goes_first() -> None:
    assert plan([Row([30], 4), Row([30], 2)], 30) == [0, 1]


def test_a_text_longer_than_the_budget_goes_alone() -> None:
    assert plan([Row([90, 1], 0), Row([1], 1)], 30) == [1, 0]
