"""Previews: for those who ask, as often as they ask, small, and more and more like the picture."""

import io
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from node.engine import Done
from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.previews import jpeg
from protos.types import ImageRequest, Preview, Progress, Task, TaskId

DOG = ImageRequest(prompt="a red dog", steps=6, seed=0)


def events_of(engine: DiffusionEngine, **requests: ImageRequest) -> list[tuple[TaskId, object]]:
    for name, request in requests.items():
        assert engine.admit(engine.prepare(Task(id=TaskId(name), request=request)))
    events: list[tuple[TaskId, object]] = []
    while engine.seated:
        events += engine.step(None).events
    return events


def test_whoever_asks_gets_one_every_so_many_steps_and_nobody_else(engine: DiffusionEngine) -> None:
    events = events_of(engine, asks=replace(DOG, preview_every=2, n=2), silent=DOG)
    previews = [(name, event.index) for name, event in events if isinstance(event, Preview)]
    assert (
        sorted(previews) == [("asks", 0)] * 2 + [("asks", 1)] * 2
    )  # after steps 2 and 4: after the last comes the picture


def test_who_did_not_ask_pays_nothing(engine: DiffusionEngine) -> None:
    vars(engine._sketcher).pop("_map", None)
    events_of(engine, silent=DOG)
    assert "_map" not in vars(engine._sketcher)


def test_a_preview_is_told_before_the_step_that_it_shows(engine: DiffusionEngine) -> None:
    kinds = [type(event) for _, event in events_of(engine, task=replace(DOG, preview_every=3))]
    assert kinds[2:4] == [Preview, Progress]
    assert kinds[-1] is Done


def test_a_preview_is_a_small_picture_of_the_same_shape(engine: DiffusionEngine) -> None:
    events = events_of(engine, task=replace(DOG, width=24, height=16, preview_every=2))
    shown = [event for _, event in events if isinstance(event, Preview)]
    pictures = [Image.open(io.BytesIO(preview.data)) for preview in shown]
    assert {(picture.format, picture.size) for picture in pictures} == {("JPEG", (64, 43))}
    assert {preview.content_type for preview in shown} == {"image/jpeg"}


def test_previews_change_no_picture(engine: DiffusionEngine) -> None:
    plain, watched = (
        events_of(engine, task=request)[-1][1].raw.pictures[0][1]  # type: ignore[attr-defined]  # a Done
        for request in (DOG, replace(DOG, preview_every=1))
    )
    assert np.array_equal(plain, watched)


def test_colours_are_read_off_the_latents_of_the_models_own_autoencoder(engine: DiffusionEngine) -> None:
    """A tiny random one keeps little of colours; what a linear map can find of them is found."""
    sketcher = engine._sketcher
    with torch.inference_mode():
        found = sketcher._map
    assert found.shape == (engine._family.latent_channels + 1, 3)
    assert torch.isfinite(found).all()


def test_large_latents_are_shown_smaller_and_small_ones_larger() -> None:
    def size(height: int, width: int) -> tuple[int, ...]:
        pixels: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
        return Image.open(io.BytesIO(jpeg(pixels))).size

    assert size(256, 128) == (64, 128)
    assert size(96, 96) == (96, 96)
    assert size(8, 8) == (64, 64)
