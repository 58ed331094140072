"""A request with a seat: its pictures in the making. Touched by the loop thread alone.

Not about who is stepped (turns.py) nor about the forwards (engine.py).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from node.engines.diffusion.drawing import Drawing
from node.engines.diffusion.process import Scheduler, fresh
from node.engines.diffusion.tiles import Tile
from node.engines.diffusion.turns import Key, Stage, Waiting
from node.engines.diffusion.words import Told
from protos.types import Progress, TaskId


@dataclass(slots=True)
class Canvas:
    """One picture in the making: its own noise, its own scheduler, its own time."""

    seed: int
    latents: Tensor | None = None  # (1, channels, height, width); None: not begun
    generator: Generator | None = None  # all chance of this picture, on the host: the same on every device
    scheduler: Scheduler | None = None
    position: int = 0  # of its next time in the drawing's times
    sketch: Tensor | None = None  # latents foreseen, to be shown as a preview after this step
    shown: list[Tensor] = field(default_factory=list)  # its decoded tiles so far
    pixels: NDArray[np.float32] | None = None  # (height, width, 3), 0 to 1; the picture is complete
    served: int = 0  # when it last sat in a step, counted in pictures

    def begin(self, drawing: Drawing, generator: Generator, latents: Tensor, scheduler: Scheduler) -> None:
        self.generator, self.latents, self.scheduler, self.position = generator, latents, scheduler, drawing.first


@dataclass(slots=True)
class Sheet:
    """One request and its pictures."""

    task_id: TaskId
    drawing: Drawing
    canvases: list[Canvas]
    opened: list[Tensor] = field(default_factory=list)  # the encoded tiles of its input picture so far
    told: Told | None = None  # (rows of a picture, ...): unguided first; None: the prompt has not been read
    steps_done: int = field(default=0)

    @classmethod
    def of(cls, task_id: TaskId, drawing: Drawing, now: int) -> "Sheet":
        seeds = range(drawing.seed, drawing.seed + drawing.request.n)
        return cls(task_id, drawing, [Canvas(seed, served=now) for seed in seeds])

    def new_scheduler(self) -> Scheduler:
        """One with no history, at the drawing's first time."""
        scheduler = fresh(self.drawing.scheduler)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(self.drawing.first)
        return scheduler

    def stage(self, canvas: Canvas) -> Stage:
        if self.told is None:
            return Stage.READ
        if canvas.latents is None:
            return Stage.OPEN
        if canvas.position < len(self.drawing.times):
            return Stage.DRAW
        return Stage.SHOW if len(self.drawing.tiles) == 1 else Stage.TILE

    def waiting(self) -> list[tuple["Seat", Waiting]]:
        """Its pictures that wait for a step; a prompt and an input picture are read once for all of them."""
        stages = [(canvas, self.stage(canvas)) for canvas in self.canvases if canvas.pixels is None]
        once = [pair for pair in stages if pair[1] in (Stage.READ, Stage.OPEN)][:1]
        return [(Seat(self, canvas), self._waits(canvas, stage)) for canvas, stage in once or stages]

    def _waits(self, canvas: Canvas, stage: Stage) -> Waiting:
        drawing = self.drawing
        if stage is Stage.READ:
            return Waiting(Key(stage, 0, 0), drawing.rows, canvas.served)
        if stage is Stage.DRAW:
            return Waiting(Key(stage, drawing.width, drawing.height), drawing.rows, canvas.served)
        return Waiting(drawing.tile_key(stage, self.next_tile(canvas)), 1, canvas.served)

    def next_tile(self, canvas: Canvas) -> Tile:
        """That is to be encoded, or decoded."""
        return self.drawing.tiles[len(self.opened if canvas.latents is None else canvas.shown)]

    @property
    def is_complete(self) -> bool:
        return all(canvas.pixels is not None for canvas in self.canvases)

    def progress(self) -> Progress:
        """Showing a picture counts like a step of it, so that only a complete one is at 1."""
        steps = (len(self.drawing.times) - self.drawing.first) * len(self.canvases)
        shown = sum(canvas.pixels is not None for canvas in self.canvases)
        return Progress((self.steps_done + shown) / (steps + len(self.canvases)), self.steps_done, steps)


@dataclass(frozen=True, slots=True)
class Seat:
    """One picture of one request, where a step takes it up."""

    sheet: Sheet
    canvas: Canvas
