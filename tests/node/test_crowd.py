"""Who waits and who is seated at one model, its bound, and what those who wait take together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.crowd import Crowd, Together
from node.engine import ModelSpec, Prepared
from node.entries import Entry
from node.runs import Run
from protos.errors import Overloaded
from protos.types import Modality, ModelId, Task, TaskId, TextRequest, Usage


def a_crowd(*, limit: int = 1, seats: int = 0) -> Crowd:
    return Crowd(
        Entry(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=seats, waiting_limit=limit), None)
    )


def a_run(crowd: Crowd, name: str, priority: int = 0) -> Run:
    return Run(Task(id=TaskId(name), request=TextRequest(prompt="a"), priority=priority), crowd.entry, lambda: 0.0)


def prepared(run: Run, expected_s: float) -> Prepared:
    return Prepared(task=run.task, usage=Usage(device_seconds=expected_s), payload=None)


def test_a_full_room_is_the_overload_error() -> None:
    crowd = a_crowd(limit=1)
    crowd.check_room()
    run = a_run(crowd, "t")
    crowd.come(run)
    with pytest.raises(Overloaded, match="1 tasks wait for model 'm', the limit is 1") as caught:
        crowd.check_room()
    assert caught.value.retry_after_s is not None
    crowd.leave(run)
    crowd.check_room()


def test_those_for_whom_there_is_a_free_seat_do_not_count_as_waiting() -> None:
    crowd = a_crowd(limit=1, seats=2)
    runs = [a_run(crowd, f"t{number}") for number in range(3)]
    for run in runs:  # none is seated yet: they came at once
        crowd.check_room()
        crowd.come(run)
    with pytest.raises(Overloaded):
        crowd.check_room()
    crowd.seat(runs[0])
    with pytest.raises(Overloaded):  # two wait, for one seat and one place in the room
        crowd.check_room()
    crowd.seat(runs[1])
    with pytest.raises(Overloaded):  # one waits, and both seats are taken
        crowd.check_room()
    crowd.leave(runs[0])
    crowd.check_room()


DEEDS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["prepare", "seat", "leave"]), st.floats(0, 100)))


@given(st.lists(st.integers(0, 2), min_size=6, max_size=6), DEEDS, st.integers(0, 2))
def test_what_is_counted_is_what_looking_at_each_would_find(
    priorities: list[int], deeds: list[tuple[int, str, float]], asked: int
) -> None:
    crowd = a_crowd()
    runs = [a_run(crowd, f"t{number}", priority) for number, priority in enumerate(priorities)]
    for run in runs:
        crowd.come(run)
    waiting, seated = dict(enumerate(runs)), dict[int, Run]()
    for number, deed, expected_s in deeds:
        if deed == "prepare" and number in waiting:
            crowd.prepare(runs[number], prepared(runs[number], expected_s))
        elif deed == "seat" and number in waiting:
            crowd.seat(runs[number])
            seated[number] = waiting.pop(number)
        elif deed == "leave":  # again too: at its end, when it has left its seat before
            crowd.leave(runs[number])
            waiting.pop(number, None)
            seated.pop(number, None)
    ahead = crowd.ahead(asked)
    before = [run for run in waiting.values() if run.task.priority >= asked]
    assert (ahead.mates, list(ahead.seated)) == (len(waiting) + len(seated), list(seated.values()))
    known = [run.expected_s for run in before if run.expected_s > 0]
    assert (ahead.waiting.count, ahead.waiting.known) == (len(before), len(known))
    assert ahead.waiting.expected_s == pytest.approx(sum(known), abs=1e-6)


def test_one_that_waits_does_not_meet_itself() -> None:
    crowd = a_crowd()
    run = a_run(crowd, "t")
    crowd.come(run)
    ahead = crowd.ahead(0, but=run)
    assert (ahead.mates, ahead.waiting) == (0, Together())


def test_who_is_not_prepared_yet_is_expected_to_take_what_is_usual() -> None:
    assert Together(3, 2, 4.0).mean_s(5.0) == 3.0
    assert Together().mean_s(5.0) == 5.0
