"""Who sits in the next step. Pure; not about what a step does (engine.py).

A forward takes pictures of one latent size, each row at its own time. Whatever waits longest decides the size, so no
size starves another, and pictures beyond the row cap take turns.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from node.scheduler.costs import StepCosts

_ENOUGH_ROWS: Final = 8  # where larger steps do not pay, more rows only make everybody wait for everybody
_SHARE_OF_BEST: Final = 0.9  # a batch may grow until it has this share of the throughput that any batch can reach


class Stage(IntEnum):
    """What a picture waits for, the most urgent first: each of the first three happens once, so it starves nobody."""

    SHOW = 0  # latents to pixels
    READ = 1  # the prompt
    OPEN = 2  # the input picture to latents
    DRAW = 3  # one denoising step
    TILE = 4  # a part of the latents of a large picture to pixels


_TAKES_TURNS: Final = Stage.DRAW  # from here on nothing is urgent: a large picture is shown between others' steps


@dataclass(frozen=True, slots=True)
class Key:
    """Who can share a forward."""

    stage: Stage
    width: int  # pixels; 0 where the size plays no part
    height: int


@dataclass(frozen=True, slots=True)
class Waiting:
    key: Key
    rows: int  # that it adds to a forward
    served: int  # when it last sat in a step; no two are equal but those that never did


RowCap: TypeAlias = Callable[[StepCosts | None, float | None, int], int]
"""`row_cap`, or what stands for it."""


def pick(waiting: Sequence[Waiting], most_rows: Callable[[Key], int]) -> list[int]:
    """The places in `waiting` (not empty) of those who share the next step: at least one, then as many as fit."""
    order = sorted(range(len(waiting)), key=lambda place: (_urgency(waiting[place]), waiting[place].served))
    key = waiting[order[0]].key
    left, chosen = most_rows(key), list[int]()
    for place in order:
        if waiting[place].key == key and (not chosen or waiting[place].rows <= left):
            chosen.append(place)
            left -= waiting[place].rows
    return chosen


def _urgency(one: Waiting) -> Stage:
    return min(one.key.stage, _TAKES_TURNS)


def row_cap(costs: StepCosts | None, quantum_s: float | None, ceiling: int) -> int:
    """The most rows of a step that should end within the quantum, and no more than are worth waiting for."""
    if costs is None:
        return ceiling
    within = None if quantum_s is None else costs.units_within(quantum_s)
    return int(min(ceiling, worthwhile(costs), ceiling if within is None else within))


def worthwhile(costs: StepCosts) -> float:
    """Rows beyond which a larger step gains nothing: with a * n + b seconds for n rows, n / (n + b / a) of the best
    throughput is reached. On a GPU b is large and it is many; on a CPU a step costs what its rows cost. Without
    bound while all steps were of one size: a larger one is tried then, and b is learned.
    """
    if not costs.has_spread:
        return math.inf
    fixed_s, one_s = costs.seconds(0), costs.seconds(1)
    if fixed_s is None or one_s is None or one_s <= fixed_s:
        return math.inf
    return max(_ENOUGH_ROWS, _SHARE_OF_BEST / (1 - _SHARE_OF_BEST) * fixed_s / (one_s - fixed_s))
