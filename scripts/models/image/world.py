"""The small world of the image model: what a prompt can name, how it is said, and what the picture of it is.

Not about how a picture is judged (marks.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIDE: Final = 64  # pixels
_FINE: Final = 4  # samples per pixel and axis, so that edges are smooth

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "red": (220, 30, 30),
    "orange": (245, 135, 15),
    "yellow": (250, 220, 40),
    "green": (35, 160, 60),
    "blue": (35, 80, 225),
    "purple": (140, 45, 180),
    "pink": (250, 130, 195),
    "black": (15, 15, 15),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "cross")
SIZES: Final[Mapping[str, float]] = {"small": 7.0, "medium": 11.0, "large": 15.0}  # half the width, pixels
PLACES: Final[
    Mapping[str, tuple[float, float]]
] = {  # (x, y) of the middle, pixels from the top left corner; on the grid of the codes
    "centre": (32, 32),
    "left": (16, 32),
    "right": (48, 32),
    "top": (32, 16),
    "bottom": (32, 48),
    "top left": (16, 16),
    "top right": (48, 16),
    "bottom left": (16, 48),
    "bottom right": (48, 48),
}

_SIZE_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("", "", "", "medium"),
    "large": ("large", "large", "big", "huge"),
}
_OPENINGS: Final = ("", "", "", "", "", "draw ", "a picture of ", "an image of ", "a drawing of ", "show me ")
_ENDINGS: Final = ("", "", "", "", "", ".", " on a white background", " on white")


@dataclass(frozen=True, slots=True)
class Scene:
    """One shape on white, as a prompt can name it."""

    colour: str
    shape: str
    size: str = "medium"
    place: str = "centre"


def all_scenes() -> Iterator[Scene]:
    return (Scene(*named) for named in product(COLOURS, SHAPES, SIZES, PLACES))


def plain_prompt(scene: Scene) -> str:
    """The shortest prompt that names the scene: "a small blue square on the left"."""
    size = "" if scene.size == "medium" else scene.size
    place = "" if scene.place == "centre" else _place_phrases(scene.place)[0]
    return _sentence([size, scene.colour, scene.shape, place])


def any_prompt(scene: Scene, random: Random) -> str:
    """One of the many ways to ask for the scene; centre and medium may go unsaid."""
    size = random.choice(_SIZE_WORDS[scene.size])
    is_unsaid = scene.place == "centre" and random.random() < 0.6
    place = "" if is_unsaid else random.choice(_place_phrases(scene.place))
    words = _sentence([size, scene.colour, scene.shape, place])
    if random.random() < 0.15:  # without an article
        words = words.split(" ", 1)[1]
    return random.choice(_OPENINGS) + words + random.choice(_ENDINGS)


def words() -> list[str]:
    """Every word that a prompt of the grammar can hold, each once, in a fixed order."""
    said = [*_OPENINGS, *_ENDINGS, "a an the", *COLOURS, *SHAPES]
    said += [word for choices in _SIZE_WORDS.values() for word in choices]
    said += [phrase for place in PLACES for phrase in _place_phrases(place)]
    return list(dict.fromkeys(word for text in said for word in text.replace(".", "").split()))


def picture(scene: Scene) -> NDArray[np.uint8]:
    """The scene's picture, shape (64, 64, 3)."""
    (x, y), radius = PLACES[scene.place], SIZES[scene.size]
    ink = coverage(scene.shape, x, y, radius)[..., None]
    return np.round(255 * (1 - ink) + np.array(COLOURS[scene.colour]) * ink).astype(np.uint8)


def picture_tensor(scenes: Sequence[Scene]) -> Tensor:
    """(scenes, 3, 64, 64), -1 to 1."""
    drawn = torch.from_numpy(np.stack([picture(scene) for scene in scenes]))
    return drawn.permute(0, 3, 1, 2).float() / 127.5 - 1


def coverage(shape: str, x: float, y: float, radius: float) -> NDArray[np.float64]:
    """How much of each pixel the shape covers, shape (64, 64), 0 to 1."""
    steps = (np.arange(SIDE * _FINE) + 0.5) / _FINE
    right, down = (steps[None, :] - x) / radius, (steps[:, None] - y) / radius
    inside = _inside(shape, right, down)
    return inside.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3))


def _inside(shape: str, right: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.bool_]:
    """right: (1, samples), down: (samples, 1), in units of the radius from the middle."""
    match shape:
        case "circle":
            return right**2 + down**2 <= 1
        case "square":
            return (abs(right) <= 0.9) & (abs(down) <= 0.9)
        case "triangle":
            return (down <= 0.85) & (down >= 2 * abs(right) - 0.95)
        case "cross":
            return ((abs(right) <= 0.32) & (abs(down) <= 1)) | ((abs(down) <= 0.32) & (abs(right) <= 1))
        case _:
            return _inside_star(right, down)


def _inside_star(right: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Five points of radius 1.05, the first upwards; the inner corners have 0.42 of it."""
    outer, inner, half = 1.05, 1.05 * 0.42, math.pi / 5
    angle = np.abs((np.arctan2(right, -down) + half) % (2 * half) - half)  # from the nearest point
    along, across = np.cos(angle), np.sin(angle)
    distance = np.sqrt(right**2 + down**2)
    # The edge from (outer, 0) to inner * (cos half, sin half), as the line normal . p = reach.
    normal = (inner * math.sin(half), outer - inner * math.cos(half))
    reach = normal[0] * outer
    return distance * (along * normal[0] + across * normal[1]) <= reach


def _sentence(parts: Sequence[str]) -> str:
    text = " ".join(part for part in parts if part)
    return ("an " if text[0] in "aeiou" else "a ") + text


def _place_phrases(place: str) -> Sequence[str]:
    if place == "centre":
        return ("in the centre", "in the center", "in the middle")
    if place in ("left", "right"):
        return (f"on the {place}", f"on the {place} side", f"at the {place}")
    if place in ("top", "bottom"):
        return (f"at the {place}", f"on the {place}", f"near the {place}")
    return tuple(f"{way} the {place}{end}" for way, end in product(("in", "at"), ("", " corner")))
