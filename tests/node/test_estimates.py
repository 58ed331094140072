"""What a new task would wait for, from runs on a clock of the test's own."""

import pytest

from node import estimates
from node.engine import ModelSpec, Prepared
from node.entries import Entry
from node.memory.ledger import Evict, Refuse
from node.memory.measured import Measured
from node.runs import Run
from node.scheduler.forecast import Pace
from protos.types import Modality, ModelId, NodeId, Started, Task, TaskId, TextRequest, Usage

ENTRY = Entry(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=2), Measured(1 << 20, 7.0))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_run(clock: Clock, expected_s: float, *, priority: int = 0) -> Run:
    task = Task(id=TaskId("t"), request=TextRequest(prompt="a"), priority=priority)
    run = Run(task, ENTRY, clock)
    run.prepared = Prepared(task=task, usage=Usage(device_seconds=expected_s), payload=None)
    return run


def seated(clock: Clock, expected_s: float) -> Run:
    run = a_run(clock, expected_s)
    run.start(Started(NodeId("n"), ENTRY.spec.id))
    return run


def test_the_seated_count_with_what_is_left_of_them_and_the_waiting_share_the_seats() -> None:
    clock = Clock()
    runs = [seated(clock, 10.0), seated(clock, 4.0), a_run(clock, 5.0), a_run(clock, 5.0)]
    clock.now_s = 2.0
    wait_s = estimates.queue_s(ENTRY, runs, 0, Pace())
    assert (
        wait_s == 8.0
    )  # the seats are free after 2 and 8 s; the first who waits takes one from 2 to 7, the second to 12


def test_who_goes_later_is_not_waited_for() -> None:
    clock = Clock()
    runs = [seated(clock, 10.0), seated(clock, 4.0), a_run(clock, 5.0, priority=1)]
    assert estimates.queue_s(ENTRY, runs, 2, Pace()) == 4.0


def test_a_free_seat_is_not_waited_for() -> None:
    clock = Clock()
    assert estimates.queue_s(ENTRY, [seated(clock, 10.0)], 0, Pace()) == 0.0


def test_what_was_learned_of_the_pace_counts() -> None:
    clock = Clock()
    runs = [seated(clock, 10.0), seated(clock, 4.0)]
    assert estimates.queue_s(ENTRY, runs, 0, Pace().plus(1.0, 3.0)) == 12.0


@pytest.mark.parametrize(("decision", "fits"), [(Evict([ModelId("other")]), True), (Refuse(2, 1), False)])
def test_a_model_that_is_not_loaded_is_loaded_first(decision: Evict | Refuse, fits: bool) -> None:
    estimate = estimates.estimate_of(ENTRY, Usage(), 1.0, decision)
    assert (estimate.load_s, estimate.total_s, estimate.fits_memory) == (7.0, 8.0, fits)
    assert list(estimate.would_evict) == (["other"] if fits else [])
