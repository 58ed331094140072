"""Which windows share a call: one key, everybody's turn, nobody twice."""

from hypothesis import given
from hypothesis import strategies as st

from node.engines.whisper.batch import Key, Pick, Waiting, choose, lead
from protos.types import TaskId

KEYS = [Key(0, 0.0, 76), Key(0, 0.2, 76), Key(4, 0.0, 224)]
keys = st.sampled_from(KEYS)


@st.composite
def seats(draw: st.DrawFn) -> list[Waiting]:
    served = draw(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True))
    return [
        Waiting(TaskId(f"t{n}"), turn, list(enumerate(draw(st.lists(keys, min_size=1, max_size=5)))))
        for n, turn in enumerate(served)
    ]


@given(seats(), st.integers(1, 16))
def test_a_call_has_one_key_and_no_window_twice_and_is_never_empty(waiting: list[Waiting], rows: int) -> None:
    key = lead(waiting)
    picks = choose(waiting, key, rows)
    keys_of = {(seat.task_id, index): own for seat in waiting for index, own in seat.windows}
    assert 1 <= len(picks) <= rows
    assert len({(pick.task_id, pick.window) for pick in picks}) == len(picks)
    assert {keys_of[pick.task_id, pick.window] for pick in picks} == {key}


@given(seats(), st.integers(1, 16))
def test_who_was_served_longest_ago_is_in_every_call(waiting: list[Waiting], rows: int) -> None:
    first = min(waiting, key=lambda seat: seat.served)
    assert choose(waiting, lead(waiting), rows)[0].task_id == first.task_id


@given(seats(), st.integers(1, 16))
def test_a_call_is_full_where_the_key_has_windows_enough(waiting: list[Waiting], rows: int) -> None:
    key = lead(waiting)
    fitting = sum(own == key for seat in waiting for _, own in seat.windows)
    assert len(choose(waiting, key, rows)) == min(rows, fitting)


def test_everybody_gets_a_window_before_anybody_gets_two() -> None:
    key = KEYS[0]
    long = Waiting(TaskId("long"), 1, [(n, key) for n in range(9)])
    short = Waiting(TaskId("short"), 2, [(0, key)])
    assert choose([long, short], key, 3) == [Pick("long", 0), Pick("short", 0), Pick("long", 1)]
