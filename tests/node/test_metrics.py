"""Rates and totals, on a clock of the test's own."""

import pytest

from node.metrics import Meter
from node.scheduler.messages import Stepped
from protos.errors import Cancelled, Internal
from protos.types import ModelId

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
