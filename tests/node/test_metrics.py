"""Rates, totals and readiness, on a clock of the test's own."""

import pytest

from node.metrics import Meter, Pulse, unready_reason
from node.scheduler.messages import Stepped
from protos.errors import Cancelled, Internal
from protos.types import Modality, Model, ModelId, ModelState, ModelStatus

M = ModelId("m")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_rates_are_over_the_last_ten_seconds() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(40):
        clock.now_s += 0.5
        meter.step(Stepped(M, 2, 10, 0.1))
    steps_per_s, units_per_s = meter.rates()
    assert steps_per_s == pytest.approx(2.0, abs=0.11)
    assert units_per_s == pytest.approx(20.0, abs=1.1)
    clock.now_s += 11
    assert meter.rates() == (0.0, 0.0)
    assert meter.last_step_age_s == 11
    assert meter.device_seconds == pytest.approx(4.0)


def test_ends_are_counted_by_kind() -> None:
    meter = Meter(Clock())
    for error in (None, None, Cancelled("x"), Internal("y")):
        meter.end(error)
    assert (meter.succeeded, meter.cancelled, meter.failed) == (2, 1, 1)


def pulse(
    state: ModelState = ModelState.READY, *, is_awaited: bool = False, idle_s: float = 0.0, error: str = ""
) -> Pulse:
    model = Model(id=M, modality=Modality.TEXT, state=state, is_default=True, memory_bytes=1, error=error)
    return Pulse(ModelStatus(model=model, waiting=2, running=1), is_awaited, idle_s)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pulse(), ""),
        (pulse(ModelState.UNLOADED), ""),
        (pulse(ModelState.LOADING, is_awaited=True), "'m' is loading"),
        (pulse(ModelState.FAILED, is_awaited=True, error="no disk"), "could not be loaded: no disk"),
        (pulse(idle_s=29.0), ""),
        (pulse(idle_s=31.0), "3 tasks and made no step for 31 s"),
    ],
)
def test_a_node_is_ready_when_its_models_are_and_its_work_moves(given: Pulse, says: str) -> None:
    reason = unready_reason([given], 30.0, is_draining=False)
    assert (reason == "") == (says == "")
    assert says in reason


def test_a_draining_node_is_not_ready() -> None:
    assert unready_reason([pulse()], 30.0, is_draining=True) == "the node is draining"
