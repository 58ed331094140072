"""How far forecasts are off under steady load, on a device whose steps take exactly what they cost: what is left is the
forecast's own error, where scripts/bench/eta.py has the machine's too."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import pytest

from node.crowd import Crowd
from node.engine import ModelSpec, Prepared
from node.entries import Entry
from node.estimates import met, outlook
from node.memory.measured import Measured
from node.runs import Run
from node.scheduler.forecast import Paces
from protos.types import Modality, ModelId, NodeId, Started, Task, TaskId, TextRequest, Usage

ENTRY = Entry(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=16), Measured(1 << 20, 7.0))
FIXED_S, UNIT_S = 5e-3, 5e-4  # of a step, and of each unit in it
SIZES = (16, 32, 64, 96)  # units of a task
BUDGET = 32  # units of a step that serves one after the other
AIM = 0.25


def share(left: Sequence[int]) -> list[int]:
    """Everyone one unit a step, as chats and pictures."""
    return [1] * len(left)


def line(left: Sequence[int]) -> list[int]:
    """The first first, as texts to embed."""
    given, budget = [], BUDGET
    for units in left:
        given.append(min(units, budget))
        budget -= given[-1]
    return given


@dataclass
class Device:
    """One model on a device of its own, in a time that the steps make pass."""

    plan: Callable[[Sequence[int]], list[int]]
    fixed_s: float = FIXED_S
    unit_s: float = UNIT_S
    now_s: float = 0.0
    paces: Paces = field(default_factory=Paces)
    crowd: Crowd = field(default_factory=lambda: Crowd(ENTRY))
    left: dict[TaskId, int] = field(default_factory=dict)  # units, of the seated and the waiting, in order
    forecast_s: dict[TaskId, float] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)

    def alone_s(self, units: int) -> float:
        steps = units if self.plan is share else -(-units // BUDGET)
        return steps * self.fixed_s + units * self.unit_s

    def arrive(self, number: int, expected: int, units: int) -> None:
        """A task that the engine expects to be of that size, and that is of another."""
        task = Task(id=TaskId(f"t{number}"), request=TextRequest(prompt="a"))
        run, ahead = Run(task, ENTRY, lambda: self.now_s), self.crowd.ahead(0)
        run.prepare(Prepared(task=task, usage=Usage(device_seconds=self.alone_s(expected)), payload=None))
        run.met = met(ENTRY, ahead, others=0, expected_s=run.expected_s)
        run.found_seat = ahead.mates < ENTRY.seats
        self.forecast_s[task.id] = outlook(ENTRY, ahead, self.paces, run.met).eta_s
        self.crowd.come(run)
        self.left[task.id] = units

    def step(self) -> None:
        for run in list(self.crowd.waiting.values())[: ENTRY.seats - len(self.crowd.seated)]:
            self.crowd.seat(run)
            run.start(Started(NodeId("n"), ENTRY.spec.id))
            if run.found_seat:
                self.paces = self.paces.seated(run.met, run.timings.queued_s)
        seated = list(self.crowd.seated)
        given = self.plan([self.left[task_id] for task_id in seated])
        self.now_s += self.fixed_s + self.unit_s * sum(given)
        for task_id, units in zip(seated, given, strict=True):
            self.left[task_id] -= units
            if self.left[task_id] == 0:
                del self.left[task_id]
                self._end(task_id)

    def _end(self, task_id: TaskId) -> None:
        run = self.crowd.seated[task_id]
        self.crowd.leave(run)
        self.paces = self.paces.plus(run.met, run.seated_s)
        self.errors.append(abs(self.forecast_s[task_id] - run.age_s) / run.age_s)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("plan", [share, line])
def test_half_of_the_forecasts_are_within_a_quarter(plan: Callable[[Sequence[int]], list[int]], load: float) -> None:
    assert median_error(Device(plan), load, SIZES) < AIM


def test_pictures_which_cost_each_other_all_that_they_take_are_forecast_as_well() -> None:
    assert median_error(Device(share, fixed_s=8e-3, unit_s=14e-3), 0.6, (5, 11, 21)) < AIM


def median_error(device: Device, load: float, sizes: Sequence[int]) -> float:
    """Of tasks that arrive at random, at `load` times what the device can do."""
    chance, number, at_s = random.Random(7), 0, 0.0
    rows = ENTRY.seats if device.plan is share else BUDGET
    tasks_per_s = load * rows / (device.fixed_s + device.unit_s * rows) / (sum(sizes) / len(sizes))
    while len(device.errors) < 400:
        while at_s <= device.now_s or not device.left:
            device.now_s = max(device.now_s, at_s)
            size = chance.choice(sizes)
            device.arrive(number, size, round(size * chance.uniform(0.7, 1.0)))
            number, at_s = number + 1, at_s + chance.expovariate(tasks_per_s)
        device.step()
    return median(device.errors[100:])
