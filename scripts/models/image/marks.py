"""What a picture shows, found by code: colour, shape, size and place of the one thing on white."""

from functools import cache
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scripts.models.image.world import COLOURS, PLACES, SHAPES, SIZES, Scene, coverage

_INKED: Final = 70  # of 255, off white in any channel
_FULLY: Final = 0.7  # of the strongest ink: inside, without the soft edge


def shown(pixels: NDArray[np.uint8]) -> Scene | None:
    """The scene nearest to what is shown, pixels (64, 64, 3). None: nothing is there."""
    ink = (255.0 - pixels).max(axis=2)
    if not (ink > _INKED).any():
        return None
    rows, columns = np.nonzero(ink > _INKED)
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    place = min(PLACES, key=lambda name: _distance(PLACES[name], ((left + right) / 2, (top + bottom) / 2)))
    shape, size = max(product(SHAPES, SIZES), key=lambda named: _overlap(ink > _INKED, *named, place))
    return Scene(_colour(pixels, ink), shape, size, place)


def _colour(pixels: NDArray[np.uint8], ink: NDArray[np.float64]) -> str:
    mean = pixels[ink >= _FULLY * ink.max()].mean(axis=0)
    return min(COLOURS, key=lambda name: _distance(COLOURS[name], mean))


def _overlap(inked: NDArray[np.bool_], shape: str, size: str, place: str) -> float:
    """What is inked both here and in the ideal, of what is inked in either."""
    ideal = _ideal(shape, size, place)
    return float((inked & ideal).sum() / (inked | ideal).sum())


@cache
def _ideal(shape: str, size: str, place: str) -> NDArray[np.bool_]:
    return coverage(shape, *PLACES[place], SIZES[size]) > 0.4


def _distance(one: object, other: object) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))  # type: ignore[arg-type]  # pairs and triples of numbers
