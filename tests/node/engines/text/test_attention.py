"""How decoding rows are cut into runs that attend together."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.attention import Chunk, runs_of


def rows(*lengths: int) -> list[Chunk]:
    return [Chunk(slot, length - 1, 1) for slot, length in enumerate(lengths)]


def test_rows_of_like_length_attend_together() -> None:
    assert runs_of(rows(100, 120, 90, 110)) == [(0, 4)]


def test_one_long_conversation_attends_alone() -> None:
    assert runs_of(rows(100, 120, 4000, 110, 90)) == [(0, 2), (2, 3), (3, 5)]


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=40))
def test_each_row_is_in_one_run_and_the_runs_read_no_more_than_all_as_one(lengths: list[int]) -> None:
    runs = runs_of(rows(*lengths))
    assert [row for begin, end in runs for row in range(begin, end)] == list(range(len(lengths)))
    assert sum((end - begin) * max(lengths[begin:end]) for begin, end in runs) <= len(lengths) * max(lengths)
