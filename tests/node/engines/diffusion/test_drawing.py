"""Every request that cannot be drawn is refused before it takes a seat: the field, its value and the bound."""

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.process import FLOW
from protos.errors import InputInvalid
from protos.types import Blob, ImageRequest, Task, TaskId

DRAWABLE = ImageRequest(prompt="a red dog")


def png(width: int = 16, height: int = 16, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


def refusals(engine: DiffusionEngine, **changes: Any) -> dict[str, str]:  # Any: fields of ImageRequest
    with pytest.raises(InputInvalid) as caught:
        engine.prepare(Task(id=TaskId("task"), request=replace(DRAWABLE, **changes)))
    return {error["path"]: error["message"] for error in caught.value.details["errors"]}  # type: ignore[attr-defined]  # object


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"prompt": " \n"}, "prompt", "is empty"),
        ({"prompt": "x" * 30}, "prompt", "is 32 tokens long and the model reads 24 at most"),
        ({"negative_prompt": "x" * 30}, "negative_prompt", "is 32 tokens long and the model reads 24 at most"),
        ({"width": 17}, "width", "must be a multiple of"),
        ({"height": -8}, "height", "must be at least 1, got -8"),
        ({"width": 0}, "width", "must be at least 1, got 0"),
        ({"width": 128}, "width", ", got 128"),
        ({"width": 64, "height": 64}, "width", "x height may be at most 1,024 pixels, got 64 x 64 = 4,096"),
        ({"steps": 0}, "steps", "must be from 1 to 1000, got 0"),
        ({"steps": 1001}, "steps", "must be from 1 to 1000, got 1001"),
        ({"guidance_scale": -1.0}, "guidance_scale", "must be from 0 to 100, got -1.0"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "must be from 0 to 100, got nan"),
        ({"preview_every": 0}, "preview_every", "must be at least 1, got 0"),
        ({"n": 0}, "n", "must be from 1 to 8, got 0"),
        ({"n": 9}, "n", "must be from 1 to 8, got 9"),
        ({"seed": -1}, "seed", "must be from 0 to 9223372036854775800, got -1"),
        ({"strength": 0.5}, "strength", "there is none"),
        ({"strength": 0.0, "image": Blob(png())}, "strength", "must be above 0 and at most 1, got 0.0"),
        ({"strength": 1.5, "image": Blob(png())}, "strength", "must be above 0 and at most 1, got 1.5"),
        ({"image": Blob(b"")}, "image", "is empty"),
        ({"image": Blob(b"no picture at all")}, "image", "17 bytes cannot be read as a picture"),
        ({"image": Blob(png(64, 64)[:60])}, "image", "60 bytes cannot be read as a picture"),
        ({"image": Blob(png(200, 8))}, "image", "its width must be a multiple of"),
    ],
)
def test_a_field_that_cannot_be_served_is_named(
    engine: DiffusionEngine, changes: dict[str, Any], field: str, message: str
) -> None:
    if field == "negative_prompt" and engine._family.guidance is not Guidance.PAIRS:
        message = "is not read by this model: say in the prompt what to draw instead"
    assert message in refusals(engine, **changes)[field]


def test_a_scheduler_of_the_other_process_is_refused_with_those_that_fit(engine: DiffusionEngine) -> None:
    is_flow = engine._family.process is FLOW
    wrong, fitting = ("euler", "flow_euler") if is_flow else ("flow_euler", "ddim, euler, euler_ancestral, dpmpp_2m")
    message = refusals(engine, scheduler=wrong)["scheduler"]
    assert message == f"is {wrong}, and this model works by {engine._family.process.name}: use {fitting}"


def test_a_model_without_guidance_refuses_a_scale(engine: DiffusionEngine) -> None:
    request = replace(DRAWABLE, guidance_scale=3.0)
    if engine._family.guidance is Guidance.NONE:
        assert "was made to do without" in refusals(engine, guidance_scale=3.0)["guidance_scale"]
    else:
        assert engine.prepare(Task(id=TaskId("task"), request=request)).payload.guidance_scale == 3.0


def test_every_wrong_number_is_named_at_once(engine: DiffusionEngine) -> None:
    assert set(refusals(engine, prompt="", steps=0, n=0)) == {"prompt", "steps", "n"}


def test_a_strength_that_leaves_no_step_is_refused(engine: DiffusionEngine) -> None:
    if engine._family.process is FLOW:  # rounds the other way: always one step at least
        assert (
            engine.prepare(
                Task(id=TaskId("t"), request=replace(DRAWABLE, strength=0.01, steps=4, image=Blob(png())))
            ).payload.first
            < 4
        )
        return
    message = refusals(engine, strength=0.1, steps=4, image=Blob(png()))["strength"]
    assert message == "0.1 of 4 steps is less than one step: raise one of the two"


def test_a_picture_too_large_to_open_is_refused_by_its_size(engine: DiffusionEngine) -> None:
    huge = png(9000, 9000, "1")
    assert "has 9000 x 9000 pixels: send at most 64,000,000" in refusals(engine, image=Blob(huge))["image"]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_pictures_of_any_mode_are_read(engine: DiffusionEngine, mode: str) -> None:
    request = replace(DRAWABLE, image=Blob(png(mode=mode)))
    assert engine.prepare(Task(id=TaskId("task"), request=request)).payload.source.shape == (3, 16, 16)


def test_what_is_unsaid_is_the_models(engine: DiffusionEngine, family: str) -> None:
    drawing = engine.prepare(Task(id=TaskId("task"), request=DRAWABLE)).payload
    usual = {
        "unet": (50, 7.5),
        "sdxl": (50, 5.0),
        "sd3": (28, 7.0),
        "flux": (28, 3.5),
        "schnell": (28, 0.0),
    }[family]
    assert (drawing.width, drawing.height, drawing.steps, drawing.guidance_scale) == (16, 16, *usual)
