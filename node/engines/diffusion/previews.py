"""Small pictures of what is not finished: colours read off the latents by a linear map that the model's VAE teaches.

Nothing here runs for requests that did not ask. Not about when one is due (forwards.py).
"""

import io
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from node.engines.diffusion.vae import Vae

CONTENT_TYPE: Final = "image/jpeg"
_MOST_SIDE: Final = 128  # pixels; larger latents are shown smaller
_LEAST_SIDE: Final = 64  # pixels; smaller latents are shown larger, or nobody could see them
_LESSONS: Final = 8  # pictures of a few colour patches each
_PATCHES: Final = 4  # along a side
_LESSON_SIDE: Final = 128  # pixels, where the VAE's own pictures are not smaller


class Sketcher:
    """Of one model. `sketch` on the loop thread, in inference mode; the first call learns, with one call of the VAE."""

    def __init__(self, vae: Vae) -> None:
        self._vae = vae

    def sketch(self, latents: Tensor) -> bytes:
        """A JPEG, one pixel a latent where that is of a sensible size. latents: (1, channels, height, width)."""
        values = latents[0].float().cpu().permute(1, 2, 0)
        colours = pad(values, (0, 1), value=1.0) @ self._map
        return jpeg((colours * 255).round().clamp(0, 255).byte().numpy())

    @cached_property
    def _map(self) -> Tensor:
        """(channels + 1, 3): least squares from the latents of patchy pictures to their colours."""
        unit = self._vae.pixels_per_latent
        side = max(1, min(_LESSON_SIDE // unit, self._vae.tile_side)) * unit
        chance = torch.Generator().manual_seed(0)
        patches = torch.rand(_LESSONS, 3, _PATCHES, _PATCHES, generator=chance)
        colours = interpolate(patches, size=(side, side), mode="bilinear", align_corners=False)
        device = next(self._vae.module.parameters()).device
        codes = self._vae.code(self._vae.read((colours * 2 - 1).to(device)), None).float().cpu()
        seen = pad(codes.permute(0, 2, 3, 1).flatten(0, 2), (0, 1), value=1.0)
        wanted = avg_pool2d(colours, unit).permute(0, 2, 3, 1).flatten(0, 2)
        return torch.linalg.pinv(seen) @ wanted  # also where a channel says nothing


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """pixels: (height, width, 3)."""
    longest = max(pixels.shape[:2])
    share = min(1.0, _MOST_SIDE / longest) if longest > _LEAST_SIDE else _LEAST_SIDE / longest
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR).save(file, "JPEG", quality=80)
    return file.getvalue()
