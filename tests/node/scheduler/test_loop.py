"""The device loop, turned by hand with the fake engine and a clock that only the fake device moves."""

import threading

import pytest
from turned_loop import Bench

from node.engine import ModelSpec, Prepared, Step
from node.engines.fake import FakeEngine, Faults
from node.scheduler.loop import DeviceLoop, UnderWay
from node.scheduler.messages import (
    Attach,
    Cancel,
    Detach,
    Ended,
    Entered,
    Gone,
    Output,
    Recall,
    Recalled,
    Seated,
    Stepped,
    Stop,
)
from protos.errors import Internal, OutOfMemory
from protos.types import Modality, ModelId, TaskId


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_task_enters_is_seated_speaks_and_ends(bench: Bench) -> None:
    bench.attach()
    bench.submit("t", "hello world")
    bench.turn(2)
    kinds = [type(report) for report in bench.reports]
    assert kinds == [Entered, Seated, Stepped, Output, Stepped, Output, Ended]
    assert bench.text_of("t") == "hello world"


def test_what_a_step_did_is_reported_in_one_call(bench: Bench) -> None:
    bench.attach()
    for i in range(8):
        bench.submit(f"t{i}", "word")
    bench.turn()
    assert bench.calls == 2  # the seats, before the step; and all that the step did


def test_who_waits_joins_at_the_next_step_boundary(bench: Bench) -> None:
    bench.attach()
    bench.submit("long", "a b c d e f")
    bench.turn()
    bench.submit("short", "x")
    bench.turn()
    assert set(bench.outcomes) == {"short"}


def test_a_full_batch_keeps_the_rest_waiting_in_order(bench: Bench) -> None:
    bench.attach(seats=1)
    bench.submit("low", priority=1)
    bench.submit("a1", organization="a")
    bench.submit("a2", organization="a")
    bench.submit("b1", organization="b")
    bench.finish("low", "a1", "a2", "b1")
    assert bench.seated_order() == ["a1", "b1", "a2", "low"]


def test_the_position_in_the_room_is_reported(bench: Bench) -> None:
    bench.attach(seats=1)
    for name in "abc":
        bench.submit(name)
    bench.turn()
    assert [report.position for report in bench.reports if isinstance(report, Entered)] == [0, 1, 2]


def test_device_seconds_are_shared_by_the_work_of_each_step(bench: Bench) -> None:
    bench.attach(step_s=0.01)
    bench.submit("two", "a b")
    bench.submit("one", "a")
    bench.finish("one", "two")
    assert bench.outcomes[TaskId("one")].device_s == pytest.approx(0.005)
    assert bench.outcomes[TaskId("two")].device_s == pytest.approx(0.015)


def test_a_slow_model_and_a_quick_one_get_equal_time_not_equal_steps(bench: Bench) -> None:
    bench.attach("slow", step_s=0.1)
    bench.attach("quick", step_s=0.01)
    for model in ("slow", "quick"):
        bench.submit(model, " ".join("w" * 200), model=model)
    bench.turn(110)
    steps = [report.model for report in bench.reports if isinstance(report, Stepped)]
    assert steps.count(ModelId("slow")) == pytest.approx(10, abs=1)


def test_weights_share_the_device(bench: Bench) -> None:
    bench.attach("heavy", weight=3.0)
    bench.attach("light", weight=1.0)
    for model in ("heavy", "light"):
        bench.submit(model, " ".join("w" * 200), model=model)
    bench.turn(100)
    steps = [report.model for report in bench.reports if isinstance(report, Stepped)]
    assert steps.count(ModelId("heavy")) == pytest.approx(75, abs=2)


def test_steps_are_bounded_only_while_another_model_has_work(bench: Bench) -> None:
    seen: list[float | None] = []

    class Watched(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            seen.append(quantum_s)
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("w"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Watched(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    bench.attach("other")
    bench.submit("t", "a b", model="w")
    bench.turn()
    bench.submit("o", "a b c", model="other")
    bench.finish("t")
    assert seen == [None, 0.05]


def test_a_cancelled_seat_is_free_before_the_next_step(bench: Bench) -> None:
    engine = bench.attach(seats=1)
    bench.submit("long", "a b c d e f")
    bench.submit("next", "x")
    bench.turn()
    bench.loop.send(Cancel(ModelId("m"), TaskId("long")))
    bench.turn()
    assert set(bench.outcomes) == {"next"}
    assert Gone(TaskId("long")) in bench.reports
    assert engine.seated == 0


def test_a_cancelled_task_never_takes_a_seat(bench: Bench) -> None:
    bench.attach(seats=1)
    bench.submit("first", "a b c")
    bench.submit("waits")
    bench.turn()
    bench.loop.send(Cancel(ModelId("m"), TaskId("waits")))
    bench.finish("first")
    assert bench.seated_order() == ["first"]


def test_a_cancel_of_nobody_is_answered(bench: Bench) -> None:
    bench.loop.send(Cancel(ModelId("nothing"), TaskId("nobody")))
    bench.turn()
    assert bench.reports == [Gone(TaskId("nobody"))]


def test_a_task_that_fails_by_its_own_fault_leaves_its_mates_alone(bench: Bench) -> None:
    bench.attach(faults=Faults(fails_on="bad"))
    bench.submit("good", "a b")
    bench.submit("ill", "bad")
    bench.finish("good", "ill")
    assert bench.failed() == {"ill"}


@pytest.mark.parametrize("culprit", range(7))
def test_whoever_makes_a_step_throw_is_found_and_fails_alone(bench: Bench, culprit: int) -> None:
    bench.attach(faults=Faults(throws_on="poison"))
    bench.submit("early", " ".join("e" * 30))
    bench.turn(3)
    names = [f"t{i}" for i in range(7)]
    for index, name in enumerate(names):
        bench.submit(name, "poison" if index == culprit else f"a b {name}")
    bench.finish("early", *names)
    assert bench.failed() == {f"t{culprit}"}
    assert isinstance(bench.outcomes[TaskId(f"t{culprit}")].outcome, Internal)
    assert bench.text_of("early") == " ".join("e" * 30)
    assert {bench.text_of(f"t{i}") for i in range(7) if i != culprit} == {f"a b t{i}" for i in range(7) if i != culprit}


def test_a_step_that_throws_once_hurts_nobody_even_who_has_all_been_heard(bench: Bench) -> None:
    class Hiccup(FakeEngine):
        throws = 0

        def step(self, quantum_s: float | None) -> Step:
            if any(isinstance(report, Output) for report in bench.reports) and not self.throws:
                self.throws += 1
                raise RuntimeError("once")
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Hiccup(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    for name in ("a", "b"):
        bench.submit(name, "one two three")
    bench.finish("a", "b")
    assert bench.engines[spec.id].throws == 1  # type: ignore[attr-defined]  # it is a Hiccup
    assert bench.failed() == set()
    assert bench.text_of("a") == "one two three"


def test_two_culprits_at_once_are_both_found(bench: Bench) -> None:
    bench.attach(faults=Faults(throws_on="poison"))
    for i in range(8):
        bench.submit(f"t{i}", "poison" if i in {2, 5} else "fine")
    bench.finish(*(f"t{i}" for i in range(8)))
    assert bench.failed() == {"t2", "t5"}


def test_a_task_put_aside_is_reported_as_seated_once(bench: Bench) -> None:
    bench.attach(faults=Faults(throws_on="poison"))
    for i in range(6):
        bench.submit(f"t{i}", "poison" if i == 0 else "fine")
    bench.finish(*(f"t{i}" for i in range(6)))
    assert sorted(bench.seated_order()) == [f"t{i}" for i in range(6)]


def test_a_task_put_aside_can_still_be_cancelled(bench: Bench) -> None:
    bench.attach(faults=Faults(throws_on="poison"))
    bench.submit("poison", "poison")
    bench.submit("aside", "fine")
    bench.turn(2)  # threw, and threw again: the later one was put aside
    bench.loop.send(Cancel(ModelId("m"), TaskId("aside")))
    bench.finish("poison")
    bench.submit("last", "x")
    bench.finish("last")
    assert set(bench.outcomes) == {"poison", "last"}


def test_one_model_that_throws_does_not_stop_another(bench: Bench) -> None:
    bench.attach("ill", faults=Faults(throws_on="poison"))
    bench.attach("well")
    bench.submit("p", "poison", model="ill")
    bench.submit("t", "a b c", model="well")
    bench.finish("p", "t")
    assert bench.failed() == {"p"}


def test_running_out_of_memory_lowers_the_seats_and_fails_nobody_who_fits(bench: Bench) -> None:
    class Small(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            if self.seated > 2:
                raise MemoryError
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Small(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    for i in range(8):
        bench.submit(f"t{i}", "a b")
    bench.finish(*(f"t{i}" for i in range(8)))
    assert bench.failed() == set()
    assert bench.released > 0


def test_memory_that_was_only_kept_is_released_and_nobody_loses_a_seat(bench: Bench) -> None:
    class Crowded(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            if not bench.released:
                raise MemoryError
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Crowded(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    for i in range(8):
        bench.submit(f"t{i}", "a b")
    bench.finish(*(f"t{i}" for i in range(8)))
    assert bench.failed() == set()
    assert {report.rows for report in bench.reports if isinstance(report, Stepped)} == {8}


def test_seats_come_back_one_by_one_when_memory_lasts_again(bench: Bench) -> None:
    class Crowded(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            if bench.released < 2:
                raise MemoryError
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=4)
    bench.engines[spec.id] = Crowded(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    for i in range(12):
        bench.submit(f"t{i}", "w " * 200)
    bench.rest()
    rows = [report.rows for report in bench.reports if isinstance(report, Stepped)]
    assert rows[0] == 2
    assert max(rows) == 4
    assert rows.index(3) >= 256


def test_a_task_that_alone_needs_too_much_memory_is_told_so(bench: Bench) -> None:
    bench.attach(faults=Faults(throws_on="huge", error=MemoryError()))
    bench.submit("t", "huge")
    bench.finish("t")
    assert isinstance(bench.outcomes[TaskId("t")].outcome, OutOfMemory)


def test_an_engine_that_refuses_while_empty_fails_the_task_instead_of_spinning(bench: Bench) -> None:
    class Full(FakeEngine):
        def admit(self, prepared: Prepared) -> bool:  # noqa: ARG002 - it refuses everyone
            return False

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Full(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    bench.submit("t")
    bench.turn()
    assert isinstance(bench.outcomes[TaskId("t")].outcome, Internal)


def test_a_detached_engine_is_let_go_and_closed_by_who_detached_it(bench: Bench) -> None:
    engine, is_free = bench.attach(), threading.Event()
    bench.loop.send(Detach(ModelId("m"), is_free.set))
    bench.turn()
    assert is_free.is_set()
    assert not engine.is_closed


def test_who_waits_is_given_back_when_the_model_makes_room_and_who_is_seated_stays(bench: Bench) -> None:
    bench.attach(seats=1)
    for name in ("seated", "first", "second"):
        bench.submit(name, "a b c d e")
        bench.turn()
    bench.loop.send(Recall(ModelId("m")))
    bench.finish("seated")
    assert [report.task_id for report in bench.reports if isinstance(report, Recalled)] == ["first", "second"]
    assert bench.seated_order() == ["seated"]
    bench.submit("first", "a b")
    bench.finish("first")
    assert set(bench.outcomes) == {"seated", "first"}


def test_the_call_that_is_under_way_the_longest_is_known_by_its_model(bench: Bench) -> None:
    seen: list[UnderWay | None] = []

    class Slow(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            bench.pass_time(40.0)
            seen.append(bench.loop.longest_call())
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Slow(spec)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    bench.submit("t", "a")
    bench.finish("t")
    assert seen == [UnderWay(ModelId("m"), 40.0)]
    assert str(seen[0]) == "a step of model 'm' has not come back for 40 s"


def test_no_call_is_under_way_while_the_loop_waits_for_a_message() -> None:
    loop = DeviceLoop(lambda _: None, 0.05)
    assert loop.longest_call() is None
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.send(Stop())
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_the_thread_ends_by_message_and_closes_its_engines() -> None:
    bench = Bench()
    engine = bench.attach()
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    bench.loop.send(Stop())
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert engine.is_closed
