"""What drawing costs, measured, and an engine that draws at those costs in virtual time: with its own turns and batches.

Each cost is a list of seconds that were really measured; a replay takes one of them for each call. Not about arrivals nor
waits (images.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from node.engines.diffusion.canvas import Seat
from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.family import Family
from node.engines.diffusion.forwards import Forwards
from node.engines.diffusion.turns import Stage
from protos.types import ImageRequest, Task, TaskId

PROMPT, GUIDANCE_SCALE = "a red circle", 3.0

Costs: TypeAlias = dict[Any, list[float]]  # Any: what was done; seconds of each time


@dataclass(slots=True)
class Meter:
    """Seconds of one thread's CPU, so that a busy machine changes less."""

    costs: Costs = field(default_factory=dict)

    def run(self, key: Any, work: Callable[[], Any]) -> Any:  # Any: a key; whatever the work returns
        started = time.thread_time()
        result = work()
        self.costs.setdefault(key, []).append(time.thread_time() - started)
        return result


def measure_stock(meter: Meter, pipeline: StableDiffusionPipeline, steps: int, pictures: int) -> None:
    """One call of the stock pipeline for so many requests of so many steps."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(pictures)]
    meter.run(
        (steps, pictures),
        lambda: pipeline(
            [PROMPT] * pictures, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE, generator=generators
        ),
    )


def task_of(number: int, steps: int) -> Task:
    request = ImageRequest(prompt=PROMPT, steps=steps, seed=number, guidance_scale=GUIDANCE_SCALE)
    return Task(id=TaskId(str(number)), request=request)


def measure_own(meter: Meter, engine: DiffusionEngine, pictures: int, steps: int) -> None:
    """Every step of so many requests that share each, and what comes before and after."""
    for number in range(pictures):
        task = task_of(number, steps)
        engine.admit(meter.run("prepare", lambda: engine.prepare(task)))  # noqa: B023 - called at once
    stages = [Stage.READ, *[Stage.DRAW] * steps, Stage.SHOW]
    for stage in stages:
        meter.run((stage, pictures), lambda: engine.step(None))
    assert engine.seated == 0, "every stage is one step for all: this is a bug"


class Metered(Forwards):
    """Real forwards, each of them measured."""

    def __init__(self, family: Family, meter: Meter) -> None:
        super().__init__(family)
        self._meter = meter

    def read(self, seats: Sequence[Seat]) -> None:
        self._meter.run((Stage.READ, len(seats)), lambda: super(Metered, self).read(seats))

    def draw(self, seats: Sequence[Seat]) -> None:
        self._meter.run((Stage.DRAW, len(seats)), lambda: super(Metered, self).draw(seats))

    def show(self, seats: Sequence[Seat]) -> None:
        self._meter.run((Stage.SHOW, len(seats)), lambda: super(Metered, self).show(seats))


class Replayed(Forwards):
    """Forwards that take their measured time on `clock` and leave the pictures as a computed step would."""

    def __init__(self, family: Family, costs: Costs, clock: "Clock", random: Random) -> None:
        super().__init__(family)
        self._costs, self._clock, self._random = costs, clock, random
        width, height = family.default_size
        self._pixels = np.random.default_rng(0).random((height, width, 3), np.float32)  # noise: the slowest to encode

    def read(self, seats: Sequence[Seat]) -> None:
        self._pass(Stage.READ, seats)
        for seat in seats:
            seat.sheet.told = ()
            seat.canvas.latents = torch.empty(0)

    def draw(self, seats: Sequence[Seat]) -> None:
        self._pass(Stage.DRAW, seats)
        for seat in seats:
            seat.canvas.position += 1
            seat.sheet.steps_done += 1

    def show(self, seats: Sequence[Seat]) -> None:
        self._pass(Stage.SHOW, seats)
        for seat in seats:
            seat.canvas.pixels = self._pixels

    def _pass(self, stage: Stage, seats: Sequence[Seat]) -> None:
        self._clock.now_s += self._random.choice(self._costs[stage, len(seats)])


@dataclass(slots=True)
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def curve(costs: Mapping[Any, Sequence[float]], pictures: Sequence[int]) -> dict[int, float]:
    """Median milliseconds of a denoising step by the pictures that share it."""
    return {
        count: round(1000 * sorted(costs[Stage.DRAW, count])[len(costs[Stage.DRAW, count]) // 2], 2)
        for count in pictures
    }
