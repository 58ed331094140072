"""The forwards of a step: what each stage does to the pictures that share it.

A stage changes its pictures only after its forward has come back, so a step that the device fails can be tried again.
Not about who shares a step (turns.py).
"""

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from node.engines.diffusion.canvas import Canvas, Seat, Sheet
from node.engines.diffusion.family import Family
from node.engines.diffusion.process import takes_chance
from node.engines.diffusion.tiles import join
from node.engines.diffusion.vae import Vae


class Forwards:
    """All device work of one model. On the loop thread, in inference mode."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._device, self._dtype = family.parts.device, family.parts.dtype
        self._vae = Vae(family.parts["vae"])

    def read(self, seats: Sequence[Seat]) -> None:
        """Encodes the prompts. Pictures that start from noise alone begin here."""
        drawings = [seat.sheet.drawing for seat in seats]
        prompts = [text for drawing in drawings for text in (drawing.negative, drawing.prompt) if text is not None]
        told = self._family.tell(prompts)
        parts = zip(*(part.split([drawing.rows for drawing in drawings]) for part in told), strict=True)
        for seat, own in zip(seats, parts, strict=True):
            seat.sheet.told = own
            if seat.sheet.drawing.source is None:
                self._begin_from_noise(seat.sheet)

    def open(self, seats: Sequence[Seat]) -> None:
        """Encodes a tile of each input picture; with its last one all pictures of a request begin."""
        unit = self._vae.pixels_per_latent
        sources = [
            seat.sheet.next_tile(seat.canvas).of(torch.from_numpy(seat.sheet.drawing.source), unit) for seat in seats
        ]
        for seat, read in zip(seats, self._vae.read(torch.stack(sources).to(self._device)).split(1), strict=True):
            sheet = seat.sheet
            sheet.opened.append(read)
            if len(sheet.opened) == len(sheet.drawing.tiles):
                self._begin_from_picture(sheet, join(sheet.opened, sheet.drawing.tiles, self._vae.tile_side))
                sheet.opened = []

    def draw(self, seats: Sequence[Seat]) -> None:
        """One denoising step of each picture."""
        times = [seat.sheet.drawing.times[seat.canvas.position] for seat in seats]
        rows = [seat.sheet.drawing.rows for seat in seats]
        scaled = [_scaled(seat.canvas, time) for seat, time in zip(seats, times, strict=True)]
        found = self._family.predict(
            torch.cat([latents for latents, count in zip(scaled, rows, strict=True) for _ in range(count)]),
            self._per_row([float(time) for time in times], rows),  # whole numbers in some schedulers, not in others
            tuple(torch.cat(part) for part in zip(*(seat.sheet.told for seat in seats), strict=True)),
            self._per_row([seat.sheet.drawing.guidance_scale for seat in seats], rows),
        )
        for seat, time, seen, own in zip(seats, times, scaled, found.split(rows), strict=True):
            prediction = _guided(own, seat.sheet.drawing.guidance_scale)
            self._advance(seat, time, prediction)
            if _is_preview_due(seat):
                seat.canvas.sketch = self._family.process.foreseen(seat.canvas.scheduler, seen, prediction, time)

    def show(self, seats: Sequence[Seat]) -> None:
        """Decodes a tile of each of the finished latents; with its last one a picture is complete."""
        tiles = [seat.sheet.next_tile(seat.canvas).of(seat.canvas.latents, 1) for seat in seats]
        for seat, shown in zip(seats, self._vae.show(torch.cat(tiles)).split(1), strict=True):
            canvas, drawing = seat.canvas, seat.sheet.drawing
            canvas.shown.append(shown)
            if len(canvas.shown) == len(drawing.tiles):
                side = self._vae.tile_side * self._vae.pixels_per_latent
                whole = join(canvas.shown, drawing.tiles, side)[0]
                canvas.pixels = (whole * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
                canvas.shown = []

    def _per_row(self, values: Sequence[float], rows: Sequence[int]) -> Tensor:
        repeated = [value for value, count in zip(values, rows, strict=True) for _ in range(count)]
        return torch.tensor(repeated, dtype=torch.float32, device=self._device)

    def _begin_from_noise(self, sheet: Sheet) -> None:
        for canvas in sheet.canvases:
            generator, scheduler = _generator(canvas), sheet.new_scheduler()
            noise = self._noise(sheet, generator)
            latents = self._family.process.first_latents(scheduler, noise)
            canvas.begin(sheet.drawing, generator, latents, scheduler)

    def _begin_from_picture(self, sheet: Sheet, read: Tensor) -> None:
        time = sheet.drawing.times[sheet.drawing.first : sheet.drawing.first + 1]
        for canvas in sheet.canvases:
            generator, scheduler = _generator(canvas), sheet.new_scheduler()
            code = self._vae.code(read, generator).to(self._dtype)  # before the noise, as the pipeline draws them
            noise = self._noise(sheet, generator)
            latents = self._family.process.noised(scheduler, code, noise, time.to(self._device))
            canvas.begin(sheet.drawing, generator, latents.to(self._dtype), scheduler)

    def _noise(self, sheet: Sheet, generator: Generator) -> Tensor:
        family = self._family
        height, width = (
            sheet.drawing.height // family.pixels_per_latent,
            sheet.drawing.width // family.pixels_per_latent,
        )
        shape = (1, family.latent_channels, height, width)
        return randn_tensor(shape, generator=generator, device=self._device, dtype=self._dtype)

    def _advance(self, seat: Seat, time: Tensor, prediction: Tensor) -> None:
        canvas = seat.canvas
        chance = {"generator": canvas.generator} if takes_chance(type(canvas.scheduler)) else {}
        canvas.latents = canvas.scheduler.step(prediction, time, canvas.latents, **chance, return_dict=False)[0]
        canvas.position += 1
        seat.sheet.steps_done += 1


def _generator(canvas: Canvas) -> Generator:
    return torch.Generator("cpu").manual_seed(canvas.seed)


def _scaled(canvas: Canvas, time: Tensor) -> Tensor:
    """What the denoiser sees; schedulers of flows have no such scale."""
    scale = getattr(canvas.scheduler, "scale_model_input", None)
    return scale(canvas.latents, time) if scale else canvas.latents


def _is_preview_due(seat: Seat) -> bool:
    """Not after the last step: the picture itself comes next."""
    drawing, position = seat.sheet.drawing, seat.canvas.position
    every = drawing.request.preview_every
    return every is not None and position < len(drawing.times) and (position - drawing.first) % every == 0


def _guided(rows: Tensor, guidance_scale: float) -> Tensor:
    """rows: (1, ...), or unguided and guided. Source: Ho and Salimans 2022, as diffusers writes it."""
    if len(rows) == 1:
        return rows
    unguided, guided = rows.chunk(2)
    return unguided + guidance_scale * (guided - unguided)
