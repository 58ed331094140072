"""Large pictures are cut, each tile is in some step, and what is joined is the whole."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.tiles import cut, join
from node.engines.diffusion.turns import Stage
from protos.types import ImageRequest, Task, TaskId

LARGE = ImageRequest(prompt="a red dog", width=32, height=24, steps=1, seed=0)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([4, 8, 12, 16]))
def test_tiles_of_a_picture_join_to_the_picture(height: int, width: int, side: int) -> None:
    whole = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    tiles = cut(height, width, side)
    assert max(max(tile.height, tile.width) for tile in tiles) <= side
    assert (join([tile.of(whole, 1) for tile in tiles], tiles, side) - whole).abs().max() < 1e-9


def test_a_picture_no_larger_than_a_tile_is_whole() -> None:
    assert len(cut(64, 64, 64)) == 1


def test_a_large_picture_is_shown_a_tile_a_step_and_others_are_drawn_between(engine: DiffusionEngine) -> None:
    assert engine.admit(engine.prepare(Task(id=TaskId("large"), request=LARGE)))
    assert engine.admit(engine.prepare(Task(id=TaskId("small"), request=replace(LARGE, width=16, height=16, steps=9))))
    served = []
    while engine.seated:
        served.append(set(engine.step(None).work))
    tiles = engine.prepare(Task(id=TaskId("t"), request=LARGE)).payload.tiles
    steps_of_large = [number for number, names in enumerate(served) if "large" in names]
    assert len(steps_of_large) == 2 + len(tiles)  # its prompt is read, its one step drawn
    assert {"small"} in served[steps_of_large[2] : steps_of_large[-1]]


@pytest.mark.parametrize("width", [16, 32])
def test_what_a_picture_takes_is_known_tile_by_tile(engine: DiffusionEngine, width: int) -> None:
    engine.warm_up()
    drawing = engine.prepare(Task(id=TaskId("t"), request=replace(LARGE, width=width))).payload
    shown = sum(times for (key, _), times in drawing.units().items() if key.stage in (Stage.SHOW, Stage.TILE))
    assert shown == len(drawing.tiles)
