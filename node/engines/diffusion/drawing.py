"""An image request, checked and made ready for the device. Runs on many threads at a time and changes nothing.

Not about how it is drawn (canvas.py, engine.py).
"""

import math
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.engines.diffusion.family import Family
from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import Usual
from node.engines.diffusion.pictures import Source, UnreadableError, open_source
from node.engines.diffusion.process import Scheduler, fresh, new_scheduler
from node.engines.diffusion.tiles import Tile, cut
from node.engines.diffusion.turns import Key, Stage
from node.engines.diffusion.vae import Vae
from node.engines.diffusion.words import Spelled, TooLongError
from protos.errors import InputInvalid
from protos.types import ImageRequest, ImageScheduler

MAX_STEPS: Final = 1000
MAX_PICTURES: Final = 8
MAX_GUIDANCE: Final = 100.0
MAX_SIZE: Final = 4  # times the default, as an area and along each side
_SEEDS: Final = 1 << 63

_Errors = Iterator[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A request as the engine runs it. Frozen: the same one may take a seat twice."""

    request: ImageRequest
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    strength: float | None  # None: from noise alone
    prompt: Spelled
    negative: Spelled | None  # None: without guidance
    source: NDArray[np.float32] | None = field(repr=False, compare=False)  # (3, height, width), -1 to 1
    scheduler: Scheduler = field(repr=False, compare=False)  # timesteps set, never stepped: each picture copies it
    first: int  # the first of its timesteps that is run
    tiles: tuple[Tile, ...]  # that the autoencoder takes one at a time
    pixels_per_latent: int

    @property
    def times(self) -> Any:  # a tensor on the host
        return self.scheduler.timesteps

    def units(self) -> Counter[tuple[Key, int]]:
        """What it takes when it runs alone: how often a step of (who shares it, rows)."""
        pictures, stage = self.request.n, Stage.SHOW if len(self.tiles) == 1 else Stage.TILE
        found = Counter({(Key(Stage.READ, 0, 0), self.rows): 1})
        found[Key(Stage.DRAW, self.width, self.height), self.rows * pictures] += len(self.times) - self.first
        for tile in self.tiles:
            found[self.tile_key(stage, tile), pictures] += 1
            if self.source is not None:
                found[self.tile_key(Stage.OPEN, tile), 1] += 1
        return found

    def tile_key(self, stage: Stage, tile: Tile) -> Key:
        return Key(stage, tile.width * self.pixels_per_latent, tile.height * self.pixels_per_latent)

    @property
    def rows(self) -> int:
        """Of one picture in a forward."""
        return 1 if self.negative is None else 2


class Desk:
    """Reads requests for one model."""

    def __init__(self, family: Family, usual: Usual) -> None:
        self._family = family
        self._schedulers: dict[ImageScheduler | None, Scheduler] = {}  # without times
        self._tile_side = Vae(family.parts["vae"]).tile_side
        self._steps = usual.steps or family.steps
        self._guidance_scale = family.guidance_scale if usual.guidance_scale is None else usual.guidance_scale

    def read(self, request: ImageRequest) -> Drawing:
        """Raises InputInvalid that names every wrong field."""
        if errors := [*_number_errors(request), *_text_errors(request), *self._unfit(request)]:
            raise InputInvalid.of(errors)
        source = _opened(request)
        width, height = self._size(request, source)
        if errors := list(self._size_errors(width, height, "image" if _is_sized_by_source(request) else "")):
            raise InputInvalid.of(errors)
        steps = self._steps if request.steps is None else request.steps
        guidance = self._guidance(request)
        is_paired = guidance > 1 and self._family.guidance is Guidance.PAIRS
        scheduler, first = self._scheduler(request, steps, width, height)
        return Drawing(
            request=request,
            width=width,
            height=height,
            steps=steps,
            guidance_scale=guidance,
            seed=secrets.randbelow(1 << 32) if request.seed is None else request.seed,
            strength=self._strength(request) if source else None,
            prompt=self._spelled("prompt", request.prompt),
            negative=self._spelled("negative_prompt", request.negative_prompt) if is_paired else None,
            source=source.pixels(width, height) if source else None,
            scheduler=scheduler,
            first=first,
            tiles=self._tiles(width, height),
            pixels_per_latent=self._family.pixels_per_latent,
        )

    def largest(self) -> tuple[int, int]:
        """The width and height of the largest picture that `read` lets through: twice the default along each side."""
        multiple, most = self._family.pixel_multiple, self._family.max_side
        sides = (math.isqrt(MAX_SIZE) * side for side in self._family.default_size)
        width, height = (min(side, most or side) // multiple * multiple for side in sides)
        return width, height

    def _unfit(self, request: ImageRequest) -> _Errors:
        """What other kinds of models would take."""
        process, guidance = self._family.process, self._family.guidance
        if request.scheduler is not None and request.scheduler not in process.schedulers:
            fitting = ", ".join(process.schedulers)
            yield "scheduler", f"is {request.scheduler}, and this model works by {process.name}: use {fitting}"
        if guidance is not Guidance.PAIRS and request.negative_prompt:
            yield "negative_prompt", "is not read by this model: say in the prompt what to draw instead"
        if guidance is Guidance.NONE and (request.guidance_scale or 0) > 1:
            yield "guidance_scale", f"is {request.guidance_scale}, and this model was made to do without: leave it out"

    def _guidance(self, request: ImageRequest) -> float:
        if self._family.guidance is Guidance.NONE:
            return 0.0
        return self._guidance_scale if request.guidance_scale is None else request.guidance_scale

    def _tiles(self, width: int, height: int) -> tuple[Tile, ...]:
        unit = self._family.pixels_per_latent
        return cut(height // unit, width // unit, self._tile_side)

    def _strength(self, request: ImageRequest) -> float:
        return self._family.strength if request.strength is None else request.strength

    def _size(self, request: ImageRequest, source: Source | None) -> tuple[int, int]:
        """As asked for; else the input picture's own, cut down to what the model takes; else the model's."""
        if source is None:
            width, height = self._family.default_size
        else:
            width, height = (side - side % self._family.pixel_multiple for side in source.size)
        return request.width or width, request.height or height

    def _size_errors(self, width: int, height: int, field_name: str) -> _Errors:
        """field_name: what to blame when it is neither width nor height."""
        usual_width, usual_height = self._family.default_size
        most = MAX_SIZE * max(usual_width, usual_height)
        most = min(most, self._family.max_side or most)
        area, multiple = MAX_SIZE * usual_width * usual_height, self._family.pixel_multiple
        wrong = [
            (name, f"must be a multiple of {multiple} from {multiple} to {most}, got {side}")
            for name, side in (("width", width), ("height", height))
            if not (multiple <= side <= most and side % multiple == 0)
        ]
        if not wrong and width * height > area:
            wrong = [("width", f"x height may be at most {area:,} pixels, got {width} x {height} = {width * height:,}")]
        for name, message in wrong:
            yield (field_name, f"its {name} {message}: send width and height") if field_name else (name, message)

    def _scheduler(self, request: ImageRequest, steps: int, width: int, height: int) -> tuple[Scheduler, int]:
        scheduler = self._new_scheduler(request.scheduler)
        try:
            self._family.set_times(scheduler, steps, width, height)
        except (ValueError, IndexError, RuntimeError) as exc:
            raise InputInvalid.at("steps", f"the scheduler cannot make {steps} of them: {exc}") from exc
        if request.image is None:
            return scheduler, 0
        strength = self._strength(request)
        first = self._family.process.skipped(steps, strength) * scheduler.order
        if first >= len(scheduler.timesteps):
            raise InputInvalid.at(
                "strength", f"{strength} of {steps} steps is less than one step: raise one of the two"
            )
        return scheduler, first

    def _new_scheduler(self, name: ImageScheduler | None) -> Scheduler:
        if name not in self._schedulers:  # two at once make the same
            self._schedulers[name] = new_scheduler(self._family.process, self._family.parts["scheduler"], name)
        return fresh(self._schedulers[name])

    def _spelled(self, name: str, text: str) -> Spelled:
        try:
            return self._family.spell(text)
        except TooLongError as exc:
            raise InputInvalid.at(name, str(exc)) from exc


def _is_sized_by_source(request: ImageRequest) -> bool:
    return request.image is not None and not (request.width and request.height)


def _opened(request: ImageRequest) -> Source | None:
    if request.image is None:
        return None
    try:
        return open_source(request.image.data)
    except UnreadableError as exc:
        raise InputInvalid.at("image", str(exc)) from exc


def _number_errors(request: ImageRequest) -> _Errors:
    guidance, strength = request.guidance_scale, request.strength
    checks = (
        ("width", request.width, "at least 1", request.width is None or request.width >= 1),
        ("height", request.height, "at least 1", request.height is None or request.height >= 1),
        ("steps", request.steps, f"from 1 to {MAX_STEPS}", request.steps is None or 1 <= request.steps <= MAX_STEPS),
        ("guidance_scale", guidance, f"from 0 to {MAX_GUIDANCE:g}", guidance is None or 0 <= guidance <= MAX_GUIDANCE),
        ("strength", strength, "above 0 and at most 1", strength is None or 0 < strength <= 1),
        ("n", request.n, f"from 1 to {MAX_PICTURES}", 1 <= request.n <= MAX_PICTURES),
        ("preview_every", request.preview_every, "at least 1", request.preview_every is None or request.preview_every >= 1),
        ("seed", request.seed, f"from 0 to {_SEEDS - MAX_PICTURES}", request.seed is None or 0 <= request.seed <= _SEEDS - MAX_PICTURES),
    )  # fmt: skip
    return ((name, f"must be {bound}, got {value}") for name, value, bound, is_fine in checks if not is_fine)


def _text_errors(request: ImageRequest) -> _Errors:
    if not request.prompt.strip():
        yield "prompt", "is empty: say what to draw"
    if request.strength is not None and request.image is None:
        yield (
            "strength",
            f"{request.strength} says how much of `image` to change, and there is none: send both or neither",
        )
