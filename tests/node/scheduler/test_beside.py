"""An engine that computes beside the loop: it blocks nobody, pays for what it took, and loses no task."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turned_loop import Bench

from node.engine import ModelSpec, Step
from node.engines.fake import FakeEngine, Faults
from node.scheduler.beside import SideThread
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import (
    Attach,
    Cancel,
    Detach,
    Ended,
    Gone,
    Output,
    Recall,
    Recalled,
    Report,
    Seated,
    Stepped,
    Stop,
    Submit,
)
from node.scheduler.policy import WAKE_CREDIT_S
from protos.errors import FabricError, Internal
from protos.types import Modality, ModelId, Task, TaskId, TextRequest

BOUND_S = 60.0  # on every wait
EARS, TALK = ModelId("ears"), ModelId("talk")
LONG = " ".join("w" * 250)


@pytest.fixture
def bench() -> Bench:
    """A long call beside the loop, a short step on it."""
    bench = Bench()
    bench.attach("ears", step_s=1.0, beside_threads=1)
    bench.attach("talk", step_s=0.01)
    return bench


def test_a_call_beside_the_loop_ends_its_tasks_as_any_step_does(bench: Bench) -> None:
    bench.submit("a", "one two", model="ears")
    bench.rest()
    assert bench.text_of("a") == "one two"
    assert bench.outcomes[TaskId("a")].device_s == pytest.approx(2.0)


def test_others_are_stepped_while_a_call_is_under_way(bench: Bench) -> None:
    bench.submit("a", "one", model="ears")
    bench.turn()
    bench.submit("t", "one two three four", model="talk")
    bench.finish("t")
    assert bench.now_s == pytest.approx(0.04)
    assert TaskId("a") not in bench.outcomes


def test_who_comes_during_a_call_is_seated_for_the_next_one(bench: Bench) -> None:
    bench.submit("a", "one two", model="ears")
    bench.turn()
    bench.submit("b", "x", model="ears")
    bench.turn()
    assert bench.seated_order() == ["a"]
    bench.finish("a", "b")
    assert bench.now_s == pytest.approx(2.0)


def test_a_caller_who_cancels_during_a_call_hears_at_once_and_its_mates_go_on(bench: Bench) -> None:
    bench.submit("leaves", "one two", model="ears")
    bench.submit("stays", "one two", model="ears")
    bench.turn()
    bench.loop.send(Cancel(EARS, TaskId("leaves")))
    bench.submit("t", "one", model="talk")  # so that the loop need not wait for the call
    bench.turn()
    assert Gone(TaskId("leaves")) in bench.reports
    assert bench.now_s < 0.1
    bench.rest()
    assert set(bench.outcomes) == {"stays", "t"}
    assert bench.text_of("leaves") == ""
    assert bench.outcomes[TaskId("stays")].device_s == pytest.approx(1.5)  # the first call was for two
    assert bench.engines[EARS].seated == 0


def test_an_id_that_is_used_again_during_its_call_belongs_to_the_new_task(bench: Bench) -> None:
    bench.submit("a", "old words", model="ears")
    bench.turn()
    bench.loop.send(Cancel(EARS, TaskId("a")))
    bench.submit("a", "new", model="ears")
    bench.rest()
    assert bench.text_of("a") == "new"
    assert [type(report) for report in bench.reports if isinstance(report, Gone | Ended)] == [Gone, Ended]


def test_an_innocent_mate_does_not_fail_for_a_culprit_that_left_during_the_call() -> None:
    bench = Bench()
    bench.attach("ears", step_s=1.0, beside_threads=1, faults=Faults(throws_on="poison"))
    bench.submit("mate", "one two", model="ears")
    bench.submit("culprit", "poison", model="ears")
    bench.turn()
    bench.loop.send(Cancel(EARS, TaskId("culprit")))
    bench.rest()
    assert bench.failed() == set()
    assert bench.text_of("mate") == "one two"


def test_whoever_makes_a_call_throw_is_found_and_fails_alone() -> None:
    bench = Bench()
    bench.attach("ears", step_s=1.0, beside_threads=1, faults=Faults(throws_on="poison"))
    for index in range(7):
        bench.submit(f"t{index}", "poison" if index == 3 else "a b", model="ears")
    bench.rest()
    assert bench.failed() == {"t3"}
    assert isinstance(bench.outcomes[TaskId("t3")].outcome, Internal)


def test_a_model_that_runs_out_of_memory_beside_the_loop_gets_fewer_seats() -> None:
    class Small(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            if self.seated > 2:
                raise MemoryError
            return super().step(quantum_s)

    bench = Bench()
    spec = ModelSpec(id=EARS, engine="fake", modality=Modality.TEXT)
    bench.engines[EARS], bench.call_s[EARS] = Small(spec, beside_threads=1), 1.0
    bench.loop.send(Attach(bench.engines[EARS], 1.0))
    for index in range(8):
        bench.submit(f"t{index}", "a b", model="ears")
    bench.rest()
    assert len(bench.outcomes) == 8
    assert bench.failed() == set()


def test_an_engine_is_closed_when_its_call_is_back_and_others_go_on_meanwhile(bench: Bench) -> None:
    freed: list[float] = []
    bench.submit("a", "one two", model="ears")
    bench.submit("t", "one two three", model="talk")
    bench.turn()
    bench.loop.send(Detach(EARS, lambda: (bench.engines[EARS].close(), freed.append(bench.now_s))))
    bench.finish("t")
    assert bench.failed() == {"a"}
    assert not bench.engines[EARS].is_closed
    bench.submit("more", LONG, model="talk")
    bench.finish("more")
    assert bench.engines[EARS].is_closed
    assert freed == [pytest.approx(1.0, abs=0.02)]
    assert bench.closed_sides == [EARS]


def test_a_call_is_charged_for_the_part_of_the_device_that_it_takes() -> None:
    bench = Bench(threads=4)
    bench.attach("ears", step_s=1.0, beside_threads=2)
    bench.submit("a", "one", model="ears")
    bench.rest()
    assert bench.outcomes[TaskId("a")].device_s == pytest.approx(0.5)


def test_its_debt_holds_it_back_until_the_others_have_had_as_much() -> None:
    bench = Bench()
    bench.attach("ears", step_s=1.0, seats=1, beside_threads=1)
    bench.attach("talk", step_s=0.02, seats=1)
    bench.attach("draw", step_s=0.05, seats=1)
    for model in ("ears", "talk", "draw"):
        for part in "abc":
            bench.submit(f"{model}-{part}", LONG, model=model)
    while bench.now_s < 9:
        bench.turn()
    charged = bench.charged_s()
    assert charged[TALK] == pytest.approx(charged[ModelId("draw")], abs=0.1)
    assert charged[EARS] == pytest.approx(charged[TALK], abs=1.1)


def test_who_wakes_now_and_then_cannot_hold_a_model_in_debt_back_for_ever(bench: Bench) -> None:
    """A light model whose tasks come one after another is before it only until it has had as much."""
    for index in range(99):
        bench.submit(f"a{index}", "one", model="ears", organization=f"o{index}")
    for index in range(400):
        bench.submit(f"t{index}", "one", model="talk")
        bench.finish(f"t{index}")
    charged = bench.charged_s()
    assert charged[EARS] >= charged[TALK] - 1.0 > 2


def test_an_idle_one_costs_nothing(bench: Bench) -> None:
    quanta: list[float | None] = []

    class Watched(FakeEngine):
        def step(self, quantum_s: float | None) -> Step:
            quanta.append(quantum_s)
            return super().step(quantum_s)

    spec = ModelSpec(id=ModelId("w"), engine="fake", modality=Modality.TEXT)
    bench.engines[spec.id] = Watched(spec, work=bench.pass_time)
    bench.loop.send(Attach(bench.engines[spec.id], 1.0))
    bench.submit("t", "a b c", model="w")
    bench.rest()
    assert quanta == [None, None, None]
    assert not bench.past


# ---- properties ----

words = st.sampled_from(["one", "a b", "a b c d", "poison", "bad luck"])
moves = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(["ears", "nose", "talk", "draw"]), words),
        st.tuples(st.just("cancel"), st.integers(1, 4), st.none()),
        st.tuples(st.just("turn"), st.integers(1, 3), st.none()),
        st.tuples(st.just("pass"), st.sampled_from([0.01, 0.3, 1.1]), st.none()),
        st.tuples(st.just("recall"), st.sampled_from(["ears", "talk"]), st.none()),
        st.tuples(st.just("detach"), st.sampled_from(["ears", "talk"]), st.none()),
    ),
    min_size=10,
    max_size=40,
)


@settings(max_examples=100)
@given(plan=moves)
def test_every_task_ends_exactly_once(plan: list[tuple[str, object, object]]) -> None:  # noqa: C901 - a branch per move
    bench = Bench()
    faults = Faults(throws_on="poison", fails_on="bad")
    bench.attach("ears", step_s=1.0, seats=3, beside_threads=1, faults=faults)
    bench.attach("nose", step_s=0.3, seats=2, beside_threads=1, faults=faults)
    bench.attach("talk", step_s=0.01, seats=3, faults=faults)
    bench.attach("draw", step_s=0.08, seats=1, faults=faults)
    models: dict[str, str] = {}
    prompts: dict[str, str] = {}
    detached: set[str] = set()
    for move, what, more in plan:
        match move:
            case "submit" if what not in detached:
                name = f"t{len(models)}"
                models[name], prompts[name] = str(what), str(more)
                bench.submit(name, str(more), model=str(what), organization="ab"[len(models) % 2])
            case "cancel" if models:  # one of the last four
                name = f"t{max(0, len(models) - int(str(what)))}"
                bench.loop.send(Cancel(ModelId(models[name]), TaskId(name)))
            case "turn":
                for _ in range(int(str(what))):
                    if not bench.loop.would_wait:  # or a call beside it would end now
                        bench.turn()
            case "pass":
                bench.pass_time(float(str(what)))
            case "detach" if what not in detached:
                detached.add(str(what))
                bench.loop.send(Detach(ModelId(str(what)), bench.engines[ModelId(str(what))].close))
            case "recall":
                bench.loop.send(Recall(ModelId(str(what))))
    bench.rest()
    for name, model in models.items():
        check_life(bench.reports, name, prompts[name], was_detached=model in detached)
    assert all(engine.seated == 0 for engine in bench.engines.values())
    assert {model for model, engine in bench.engines.items() if engine.is_closed} == detached
    assert sum(ended.device_s for ended in bench.outcomes.values()) <= sum(bench.charged_s().values()) + 1e-6


def check_life(reports: list[Report], name: str, prompt: str, *, was_detached: bool) -> None:
    """One end and nothing after it; nothing after a cancel or a recall; innocents do not fail and say all their words."""
    own = [report for report in reports if not isinstance(report, Stepped) and report.task_id == name]
    ends = [index for index, report in enumerate(own) if isinstance(report, Ended)]
    gone = [index for index, report in enumerate(own) if isinstance(report, Gone | Recalled)]
    last = min([*ends, *gone])
    assert len(ends) + bool(gone) >= 1
    assert len(ends) <= 1
    assert all(isinstance(report, Gone) for report in own[last + 1 :])
    assert sum(isinstance(report, Seated) for report in own) <= 1
    if ends and not was_detached:
        outcome = own[ends[0]].outcome  # type: ignore[union-attr]  # it is Ended
        assert isinstance(outcome, FabricError) == (prompt in {"poison", "bad luck"})
        said = "".join(report.event.text for report in own if isinstance(report, Output))  # type: ignore[union-attr]
        assert said == ("" if isinstance(outcome, FabricError) else prompt)


lanes = st.lists(st.tuples(st.floats(0.02, 0.3), st.floats(0.5, 2.0)), min_size=1, max_size=3)
HORIZON_S = 6.0


@settings(max_examples=25)
@given(loop_lanes=lanes, beside=st.tuples(st.floats(0.1, 2.0), st.floats(0.5, 2.0)))
def test_shares_are_fair_by_charged_seconds(loop_lanes: list[tuple[float, float]], beside: tuple[float, float]) -> None:
    """All have work all the time. Each lane: (seconds of a step, weight)."""
    bench = Bench()
    named = {ModelId(f"m{index}"): lane for index, lane in enumerate(loop_lanes)}
    for model, (step_s, weight) in named.items():
        bench.attach(model, step_s=step_s, weight=weight, seats=1)
    call_s, own_weight = beside
    bench.attach("ears", step_s=call_s, weight=own_weight, seats=1, beside_threads=1)
    for model in bench.engines:
        for part in "ab":
            bench.submit(f"{model}-{part}", LONG, model=model)
    while bench.now_s < HORIZON_S:
        bench.turn()
    charged = bench.charged_s()
    had = {model: charged[model] / weight for model, (_, weight) in named.items()}
    slack = 2 * max(step_s / weight for step_s, weight in loop_lanes)
    assert max(had.values()) - min(had.values()) <= slack + 1e-6
    ahead_s = charged[EARS] / own_weight - min(had.values())
    assert ahead_s <= call_s / own_weight + slack + WAKE_CREDIT_S + 1e-6
    for before, after in pairwise(bench.past):  # never held back longer than the others take for as much
        others_s = sum(weight * call_s / own_weight + 2 * step_s for step_s, weight in loop_lanes)
        assert after.began_s - before.ends_s <= others_s + 1e-6


# ---- with real threads ----


class Threaded:
    """A loop on its own thread with side threads."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self._changed = threading.Condition()
        self.loop = DeviceLoop(self._take, quantum_s=0.05)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)

    def _take(self, reports: list[Report]) -> None:
        with self._changed:
            self.reports.extend(reports)
            self._changed.notify_all()

    def wait_for(self, task_id: str, kind: type) -> None:
        def came() -> bool:
            return any(isinstance(r, kind) and r.task_id == task_id for r in self.reports)  # type: ignore[union-attr]

        with self._changed:
            assert self._changed.wait_for(came, BOUND_S), f"no {kind.__name__} of {task_id}"

    def attach(self, name: str, *, beside_threads: int = 0, gate: threading.Event | None = None) -> FakeEngine:
        spec = ModelSpec(id=ModelId(name), engine="fake", modality=Modality.TEXT)
        engine = FakeEngine(spec, faults=Faults(gate=gate), beside_threads=beside_threads)
        self.loop.send(Attach(engine, 1.0))
        return engine

    def submit(self, engine: FakeEngine, name: str) -> None:
        task = Task(id=TaskId(name), request=TextRequest(prompt="one two"))
        self.loop.send(Submit(engine.model, engine.prepare(task)))


def test_a_call_that_lasts_does_not_hold_the_loops_thread() -> None:
    box, gate = Threaded(), threading.Event()
    ears, talk = box.attach("ears", beside_threads=1, gate=gate), box.attach("talk")
    box.thread.start()
    box.submit(ears, "a")
    box.wait_for("a", Seated)
    box.submit(talk, "t")
    box.wait_for("t", Ended)
    box.loop.send(Cancel(ears.model, TaskId("a")))
    box.wait_for("a", Gone)
    assert ears.seated == 1
    box.loop.send(Stop())  # waits for the call
    gate.set()
    box.thread.join(BOUND_S)
    assert not box.thread.is_alive()
    assert ears.is_closed
    assert talk.is_closed


def test_a_side_thread_runs_its_calls_in_order_and_ends() -> None:
    side, done, order = SideThread("test"), threading.Event(), list[int]()
    for number in range(3):
        side.run(lambda number=number: number, order.append)
    side.run(done.set, lambda _: None)
    side.close()
    assert done.wait(BOUND_S)
    assert order == [0, 1, 2]
