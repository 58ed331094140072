"""What a new task would wait for, from runs on a clock of the test's own."""

import itertools

import pytest

from node.crowd import Crowd
from node.engine import ModelSpec, Prepared
from node.entries import Entry
from node.estimates import Outlook, estimate_of, met, outlook
from node.memory.ledger import Evict, Refuse
from node.memory.measured import Measured
from node.runs import Run
from node.scheduler.forecast import Met, Paces
from protos.types import Modality, ModelId, NodeId, Started, Task, TaskId, TextRequest, Usage

NUMBERS = itertools.count()
ENTRY = Entry(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=2), Measured(1 << 20, 7.0))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_run(clock: Clock, expected_s: float, *, priority: int = 0) -> Run:
    task = Task(id=TaskId(f"t{next(NUMBERS)}"), request=TextRequest(prompt="a"), priority=priority)
    run = Run(task, ENTRY, clock)
    run.prepare(Prepared(task=task, usage=Usage(device_seconds=expected_s), payload=None))
    return run


def seated(clock: Clock, expected_s: float) -> Run:
    run = a_run(clock, expected_s)
    run.start(Started(NodeId("n"), ENTRY.spec.id))
    return run


def ahead(runs: list[Run], *, priority: int = 0, paces: Paces | None = None, others: int = 0) -> Outlook:
    """Of a task that takes 2 s alone."""
    crowd = Crowd(ENTRY)
    for run in runs:
        crowd.come(run)
        if run.is_seated:
            crowd.seat(run)
    found = crowd.ahead(priority)
    return outlook(ENTRY, found, paces or Paces(), met(ENTRY, found, others=others, expected_s=2.0))


def learned(met: Met, held_s: float) -> Paces:
    """Often enough to be believed."""
    paces = Paces()
    for _ in range(8):
        paces = paces.plus(met, held_s)
    return paces


def test_the_seated_count_with_what_is_left_of_them_and_the_waiting_share_the_seats() -> None:
    clock = Clock()
    runs = [seated(clock, 10.0), seated(clock, 4.0), a_run(clock, 5.0), a_run(clock, 5.0)]
    clock.now_s = 2.0
    # Two on the device take half as long again: the seats are free after 4 and 13 s, and the first who waits takes one from 4
    # to 11.5 s, the second from there to 19.
    assert ahead(runs) == Outlook(13.0, 3.0)


def test_who_goes_later_is_not_waited_for() -> None:
    clock = Clock()
    runs = [seated(clock, 10.0), seated(clock, 4.0), a_run(clock, 5.0, priority=1)]
    assert ahead(runs, priority=2).queue_s == 6.0


def test_a_free_seat_is_not_waited_for() -> None:
    assert ahead([seated(Clock(), 10.0)]).queue_s == 0.0


@pytest.mark.parametrize(("mate_s", "run_s"), [(0.5, 2.25), (2.0, 3.0), (10.0, 3.0)])
def test_a_mate_takes_half_of_what_it_wants_which_is_no_more_than_the_task_itself(mate_s: float, run_s: float) -> None:
    assert ahead([seated(Clock(), mate_s)]) == Outlook(0.0, run_s)


def test_the_wait_and_the_run_go_by_the_pace_of_such_a_crowd() -> None:
    clock = Clock()
    paces = learned(Met(1.0, mates=1, beside_s=1.0), 3.0)
    assert ahead([seated(clock, 10.0), seated(clock, 4.0)], paces=paces) == Outlook(12.0, 6.0)
    assert ahead([], paces=learned(Met(1.0), 1.5)) == Outlook(0.0, 3.0)


def test_who_is_not_prepared_yet_takes_a_seat_as_long_as_is_usual() -> None:
    clock = Clock()
    fresh = a_run(clock, 0.0)
    paces = learned(Met(5.0, mates=1, beside_s=5.0), 7.5)
    assert ahead([seated(clock, 10.0), seated(clock, 4.0), fresh], paces=paces).queue_s == 13.5


def test_a_free_seat_is_taken_when_the_step_that_runs_has_ended() -> None:
    stepping = Paces().seated(Met(2.0), 0.25)
    assert ahead([], paces=stepping) == Outlook(0.25, 2.0)


def test_a_result_is_made_and_sent_after_the_seat() -> None:
    assert ahead([], paces=Paces().sent(0.5)) == Outlook(0.0, 2.5)


def test_other_models_at_work_take_their_share_of_the_device() -> None:
    runs = [seated(Clock(), 10.0), seated(Clock(), 4.0)]
    alone, shared = ahead(runs), ahead(runs, others=1)
    assert (shared.queue_s, shared.run_s) == (2 * alone.queue_s, 2 * alone.run_s)


@pytest.mark.parametrize(("decision", "fits"), [(Evict([ModelId("other")]), True), (Refuse(2, 1), False)])
def test_a_model_that_is_not_loaded_is_loaded_first(decision: Evict | Refuse, fits: bool) -> None:
    estimate = estimate_of(ENTRY, Usage(), Outlook(1.0, 2.0), decision)
    assert (estimate.load_s, estimate.total_s, estimate.fits_memory) == (7.0, 10.0, fits)
    assert list(estimate.would_evict) == (["other"] if fits else [])
