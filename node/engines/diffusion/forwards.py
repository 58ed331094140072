"""The forwards of a step: what each stage does to the pictures that share it.

A stage changes its pictures only after its forward has come back, so a step that the device fails can be tried again.
Not about who shares a step (turns.py).
"""

import inspect
from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from node.engines.diffusion.canvas import Canvas, Seat, Sheet
from node.engines.diffusion.family import Family
from node.engines.diffusion.vae import Vae


class Forwards:
    """All device work of one model. On the loop thread, in inference mode."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._device, self._dtype = family.parts.device, family.parts.dtype
        self._vae = Vae(family.parts["vae"])
        self._takes_generator = "generator" in inspect.signature(family.parts["scheduler"].step).parameters

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
        """Encodes the input pictures; all pictures of a request begin here."""
        sources = torch.stack([torch.from_numpy(seat.sheet.drawing.source) for seat in seats])
        codes = self._vae.read(sources.to(self._device, self._dtype))
        for seat, code in zip(seats, codes.split(1), strict=True):
            self._begin_from_picture(seat.sheet, code)

    def draw(self, seats: Sequence[Seat]) -> None:
        """One denoising step of each picture."""
        times = [seat.sheet.drawing.times[seat.canvas.position] for seat in seats]
        rows = [seat.sheet.drawing.rows for seat in seats]
        scaled = [_scaled(seat.canvas, time) for seat, time in zip(seats, times, strict=True)]
        found = self._family.predict(
            torch.cat([latents for latents, count in zip(scaled, rows, strict=True) for _ in range(count)]),
            torch.stack([time for time, count in zip(times, rows, strict=True) for _ in range(count)]).to(self._device),
            tuple(torch.cat(part) for part in zip(*(seat.sheet.told for seat in seats), strict=True)),
        )
        for seat, time, own in zip(seats, times, found.split(rows), strict=True):
            self._advance(seat, time, _guided(own, seat.sheet.drawing.guidance_scale))

    def show(self, seats: Sequence[Seat]) -> None:
        """Decodes finished latents."""
        shown = self._vae.show(torch.cat([seat.canvas.latents for seat in seats])).numpy()
        for seat, pixels in zip(seats, shown, strict=True):
            seat.canvas.pixels = pixels

    def _begin_from_noise(self, sheet: Sheet) -> None:
        for canvas in sheet.canvases:
            generator, scheduler = _generator(canvas), sheet.new_scheduler()
            noise = self._noise(sheet, generator)
            canvas.begin(sheet.drawing, generator, self._family.first_latents(scheduler, noise), scheduler)

    def _begin_from_picture(self, sheet: Sheet, read: Tensor) -> None:
        time = sheet.drawing.times[sheet.drawing.first : sheet.drawing.first + 1]
        for canvas in sheet.canvases:
            generator, scheduler = _generator(canvas), sheet.new_scheduler()
            code = self._vae.code(read, generator)  # before the noise, as the pipeline draws them
            noise = self._noise(sheet, generator)
            latents = self._family.noised(scheduler, code, noise, time.to(self._device))
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
        chance = {"generator": canvas.generator} if self._takes_generator else {}
        canvas.latents = canvas.scheduler.step(prediction, time, canvas.latents, **chance, return_dict=False)[0]
        canvas.position += 1
        seat.sheet.steps_done += 1


def _generator(canvas: Canvas) -> Generator:
    return torch.Generator("cpu").manual_seed(canvas.seed)


def _scaled(canvas: Canvas, time: Tensor) -> Tensor:
    """What the denoiser sees; schedulers of flows have no such scale."""
    scale = getattr(canvas.scheduler, "scale_model_input", None)
    return scale(canvas.latents, time) if scale else canvas.latents


def _guided(rows: Tensor, guidance_scale: float) -> Tensor:
    """rows: (1, ...), or unguided and guided. Source: Ho and Salimans 2022, as diffusers writes it."""
    if len(rows) == 1:
        return rows
    unguided, guided = rows.chunk(2)
    return unguided + guidance_scale * (guided - unguided)
