"""How a large picture is cut for the autoencoder, so that one step decodes or encodes a tile at most, and joined again.

The same tiles and blending as diffusers' `vae.enable_tiling()`, where one call does them all. Source: AutoencoderKL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
from torch import Tensor

_OVERLAP: Final = 0.25  # of a tile's side


@dataclass(frozen=True, slots=True)
class Tile:
    """In latents."""

    top: int
    left: int
    height: int
    width: int

    def of(self, whole: Tensor, unit: int) -> Tensor:
        """Its part of a tensor (..., height, width) with `unit` values a latent along a side."""
        top, left = self.top * unit, self.left * unit
        return whole[..., top : top + self.height * unit, left : left + self.width * unit]


def cut(height: int, width: int, side: int) -> tuple[Tile, ...]:
    """In reading order; one where the picture is no larger than a tile. side: of a tile, in latents."""
    if height <= side and width <= side:
        return (Tile(0, 0, height, width),)
    stride = int(side * (1 - _OVERLAP))
    return tuple(
        Tile(top, left, min(side, height - top), min(side, width - left))
        for top in range(0, height, stride)
        for left in range(0, width, stride)
    )


def join(parts: Sequence[Tensor], tiles: Sequence[Tile], side: int) -> Tensor:
    """The whole of `parts`, (rows, channels, height, width) each, every one blended into those above and beside it.

    side: of a whole tile, in values of `parts`.
    """
    if len(parts) == 1:
        return parts[0]
    blend = int(side * _OVERLAP)
    keep = side - blend
    lines = [
        [part for _, part in line] for _, line in groupby(zip(tiles, parts, strict=True), lambda pair: pair[0].top)
    ]
    whole = []
    for number, line in enumerate(lines):
        for place, part in enumerate(line):
            if number:
                part = _blended(lines[number - 1][place], part, blend, -2)  # noqa: PLW2901 - as it is built up
            if place:
                part = _blended(line[place - 1], part, blend, -1)  # noqa: PLW2901
            line[place] = part
        whole.append(torch.cat([part[..., :keep, :keep] for part in line], dim=-1))
    return torch.cat(whole, dim=-2)


def _blended(before: Tensor, part: Tensor, most: int, axis: int) -> Tensor:
    """`part`, whose first values along `axis` pass over from the last of `before`."""
    count = min(before.shape[axis], part.shape[axis], most)
    shape = [1] * part.ndim
    shape[axis] = count
    share = (torch.arange(count, device=part.device, dtype=part.dtype) / count).view(shape)
    ending = before.narrow(axis, before.shape[axis] - count, count)
    begun = ending * (1 - share) + part.narrow(axis, 0, count) * share
    return torch.cat([begun, part.narrow(axis, count, part.shape[axis] - count)], dim=axis)
