"""What a finished request becomes: PNG files that say what they were made from. Runs on the CPU pool."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from node.engines.diffusion.drawing import Drawing
from node.engines.diffusion.pictures import png
from protos.types import GeneratedImage, ImageResult, ModelId


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request with all its pictures complete, (height, width, 3) each, 0 to 1."""

    model: ModelId
    drawing: Drawing
    pictures: Sequence[tuple[int, NDArray[np.float32]]] = field(repr=False)  # with their seeds


def result_of(drawn: Drawn) -> ImageResult:
    return ImageResult([_generated(drawn, seed, pixels) for seed, pixels in drawn.pictures])


def _generated(drawn: Drawn, seed: int, pixels: NDArray[np.float32]) -> GeneratedImage:
    height, width, _ = pixels.shape
    return GeneratedImage(png(pixels, _said(drawn, seed)), "image/png", width, height, seed)


def _said(drawn: Drawn, seed: int) -> dict[str, str]:
    """What it takes to make the picture again."""
    drawing = drawn.drawing
    said = {
        "prompt": drawing.request.prompt,
        "negative_prompt": drawing.request.negative_prompt,
        "seed": str(seed),
        "steps": str(drawing.steps),
        "guidance_scale": f"{drawing.guidance_scale:g}",
        "scheduler": drawing.request.scheduler or "",
        "strength": "" if drawing.strength is None else f"{drawing.strength:g}",
        "model": drawn.model,
    }
    return {keyword: text for keyword, text in said.items() if text}
