"""The diffusion engine: pictures of many requests in one forward, each at its own time, with its own scheduler and noise.

A step is one bounded unit: prompts read, input pictures opened, one denoising step, or finished pictures shown. The
pictures are those of the stock pipeline for the same seed, alone and in any company.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch

from node.engine import DeviceSpec, Done, ModelSpec, Prepared, Step, StepEvent
from node.engines.diffusion.canvas import Seat, Sheet
from node.engines.diffusion.drawing import MAX_SIZE, Desk
from node.engines.diffusion.family import Family, load_family
from node.engines.diffusion.forwards import Forwards
from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import read_usual
from node.engines.diffusion.previews import CONTENT_TYPE, Sketcher
from node.engines.diffusion.results import Drawn, result_of
from node.engines.diffusion.turns import Key, RowCap, Stage, pick, row_cap
from node.engines.diffusion.vae import Vae
from node.scheduler.costs import StepCosts
from protos.errors import InputInvalid
from protos.types import ImageRequest, ImageResult, Modality, ModelId, Preview, Task, TaskId, Usage

_GUIDED_ROWS: Final = 2  # of one picture: unguided and guided
_BLANK_GUIDANCE: Final = 2.0  # any above 1, so that a warm-up has both rows


def load(spec: ModelSpec, device: DeviceSpec) -> "DiffusionEngine":
    """Raises LoadFailed or DoesNotFit."""
    if device.kind == "cpu":
        torch.set_num_threads(device.threads)
    usual = read_usual(spec)
    family = load_family(spec, device)
    return DiffusionEngine(spec, family, Desk(family, usual), Forwards(family))


class DiffusionEngine:
    """One loaded model. See node.engine.Engine for the contract."""

    modality = Modality.IMAGE
    context_tokens = 0
    beside_threads = 0

    def __init__(
        self,
        spec: ModelSpec,
        family: Family,
        desk: Desk,
        forwards: Forwards,
        *,
        clock: Callable[[], float] = time.perf_counter,
        row_cap: RowCap = row_cap,
    ) -> None:
        self.model: ModelId = spec.id
        self.seats = spec.seats
        self._family, self._desk, self._clock, self._row_cap = family, desk, clock, row_cap
        self._run: Mapping[Stage, Callable[[Sequence[Seat]], None]] = {
            Stage.READ: forwards.read,
            Stage.OPEN: forwards.open,
            Stage.DRAW: forwards.draw,
            Stage.SHOW: forwards.show,
            Stage.TILE: forwards.show,
        }
        self._sketcher = Sketcher(Vae(family.parts["vae"]))
        self._sheets: dict[TaskId, Sheet] = {}
        self._costs: dict[Key, StepCosts] = {}
        self._now = 0  # counts the pictures of all steps

    @property
    def seated(self) -> int:
        return len(self._sheets)

    def prepare(self, task: Task) -> Prepared:
        if not isinstance(task.request, ImageRequest):
            raise InputInvalid.at("request", f"is for {task.modality}, and {self.model} is an image model")
        drawing = self._desk.read(task.request)
        usage = Usage(
            input_tokens=drawing.prompt.tokens,
            images=task.request.n,
            device_seconds=sum(self._seconds(key, rows) * times for (key, rows), times in drawing.units().items()),
        )
        return Prepared(task=task, usage=usage, payload=drawing)

    def admit(self, prepared: Prepared) -> bool:
        if len(self._sheets) >= self.seats:
            return False
        task_id = prepared.task.id
        self._sheets[task_id] = Sheet.of(task_id, prepared.payload, self._now)
        return True

    @torch.inference_mode()
    def step(self, quantum_s: float | None) -> Step:
        offered = [waiting for sheet in self._sheets.values() for waiting in sheet.waiting()]
        chosen = pick([waiting for _, waiting in offered], lambda key: self._most_rows(key, quantum_s))
        key = offered[chosen[0]][1].key
        seats = [offered[place][0] for place in chosen]
        self._timed(key, seats, sum(offered[place][1].rows for place in chosen))
        work: dict[TaskId, int] = {}
        for place in chosen:
            seat, waiting = offered[place]
            self._now += 1  # within a step too, so that those beyond the row cap take turns
            seat.canvas.served = self._now
            work[seat.sheet.task_id] = work.get(seat.sheet.task_id, 0) + waiting.rows
        return Step(work, [*self._previews(seats), *self._events(key.stage, work)])

    def cancel(self, task_id: TaskId) -> None:
        self._sheets.pop(task_id, None)

    def finish(self, raw: Drawn) -> ImageResult:
        return result_of(raw)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """All that may share a step, from prompt to pixels; and one of the largest size, where that is more."""
        width, height = self._family.default_size
        self._draw_blank(width, height, 1)
        self._costs.clear()  # that run paid for what is made only once
        for pictures in (self.seats, 1):
            self._draw_blank(width, height, pictures)
        if self.seats < MAX_SIZE:
            self._draw_blank(*self._desk.largest(), 1)

    def held_bytes(self) -> int:
        return self._family.parts.bytes

    def close(self) -> None:
        self._sheets.clear()
        self._family.parts.release()

    def _most_rows(self, key: Key, quantum_s: float | None) -> int:
        return self._row_cap(self._costs.get(key), quantum_s, self._ceiling(key))

    def _ceiling(self, key: Key) -> int:
        """Rows whose memory the warm-up has measured: those of all seats at the default size, or as many pixels."""
        is_paired = key.stage in (Stage.READ, Stage.DRAW) and self._family.guidance is Guidance.PAIRS
        rows = self.seats * (_GUIDED_ROWS if is_paired else 1)
        width, height = self._family.default_size
        return max(1, rows * width * height // (key.width * key.height)) if key.width else rows

    def _timed(self, key: Key, seats: Sequence[Seat], rows: int) -> None:
        started = self._clock()
        self._run[key.stage](seats)
        if self._family.parts.device.type == "cuda":
            torch.cuda.synchronize(self._family.parts.device)
        self._costs.setdefault(key, StepCosts()).observe(rows, self._clock() - started)

    def _seconds(self, key: Key, rows: int) -> float:
        """Expected of `rows`, alone, in as many steps as they take. 0 while nothing has been learned."""
        costs = self._costs.get(key)
        most = min(rows, self._most_rows(key, None))
        return (costs.seconds(most) or 0.0) * math.ceil(rows / most) if costs and most else 0.0

    def _previews(self, seats: Sequence[Seat]) -> list[tuple[TaskId, StepEvent]]:
        """Of those who asked, of the pictures whose turn it is."""
        found: list[tuple[TaskId, StepEvent]] = []
        for seat in seats:
            latents, seat.canvas.sketch = seat.canvas.sketch, None
            if latents is not None:
                index = seat.canvas.seed - seat.sheet.drawing.seed
                found.append((seat.sheet.task_id, Preview(index, self._sketcher.sketch(latents), CONTENT_TYPE)))
        return found

    def _events(self, stage: Stage, work: Mapping[TaskId, int]) -> list[tuple[TaskId, StepEvent]]:
        if stage in (Stage.READ, Stage.OPEN):
            return []
        return [(task_id, self._event(self._sheets[task_id])) for task_id in work]

    def _event(self, sheet: Sheet) -> StepEvent:
        if not sheet.is_complete:
            return sheet.progress()
        del self._sheets[sheet.task_id]
        pictures = [(canvas.seed, canvas.pixels) for canvas in sheet.canvases]
        usage = Usage(input_tokens=sheet.drawing.prompt.tokens, images=len(pictures))
        return Done(Drawn(self.model, sheet.drawing, pictures), usage)

    def _draw_blank(self, width: int, height: int, pictures: int) -> None:
        """The units of so many guided pictures, once each."""
        guidance_scale = None if self._family.guidance is Guidance.NONE else _BLANK_GUIDANCE
        request = ImageRequest(prompt="a picture", width=width, height=height, guidance_scale=guidance_scale, seed=0)
        drawing = self._desk.read(request)
        sheets = [Sheet.of(TaskId(""), drawing, 0) for _ in range(pictures)]
        seats = [Seat(sheet, sheet.canvases[0]) for sheet in sheets]
        self._timed(Key(Stage.READ, 0, 0), seats, pictures * drawing.rows)
        self._timed(Key(Stage.DRAW, width, height), seats, pictures * drawing.rows)
        for sheet in sheets:
            sheet.canvases[0].position = len(drawing.times)
        stage = Stage.SHOW if len(drawing.tiles) == 1 else Stage.TILE
        for tile in drawing.tiles:
            self._timed(drawing.tile_key(stage, tile), seats, pictures)
