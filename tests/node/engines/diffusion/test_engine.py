"""The diffusion engine's pictures are those of the stock pipeline, alone and in any company."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UniPCMultistepScheduler,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from node.engine import Done, Prepared
from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.guidance import Guidance
from protos.errors import InputInvalid
from protos.types import Blob, ImageRequest, Progress, Task, TaskId, TextRequest

CLOSE = 1e-5  # of 1: what rounding in another batch may change
Stock = Any  # a pipeline of diffusers


def request(**changes: Any) -> ImageRequest:  # Any: fields of ImageRequest
    return replace(ImageRequest(prompt="a red dog", steps=4, guidance_scale=5.0, seed=11), **changes)


def fitting(engine: DiffusionEngine, asked: ImageRequest) -> ImageRequest:
    """Without what models of that kind refuse."""
    guidance = engine._family.guidance
    if guidance is Guidance.PAIRS:
        return asked
    return replace(
        asked, negative_prompt="", guidance_scale=asked.guidance_scale if guidance is Guidance.TOLD else None
    )


REQUESTS = (
    request(),
    request(prompt="two cats", steps=2, seed=5, negative_prompt="ugly"),
    request(guidance_scale=1.0, steps=6, seed=2**40),
    request(n=3, steps=3, guidance_scale=2.5),
    request(width=24, height=16, steps=3),
    request(width=24, height=16, steps=5, seed=1),
)


def png_of(side: int = 16) -> Blob:
    noise = np.random.default_rng(3).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return Blob(file.getvalue(), "image/png")


def expected(stock: Stock, asked: ImageRequest) -> NDArray[np.float32]:
    """What the stock pipeline draws, (n, height, width, 3)."""
    generators = [torch.Generator().manual_seed((asked.seed or 0) + i) for i in range(asked.n)]
    is_flux = "Flux" in type(stock).__name__
    own = (
        {"max_sequence_length": tiny_pipelines.TOKENS}
        if is_flux
        else {"negative_prompt": asked.negative_prompt or None}
    )
    sized = {} if asked.image and not is_flux else {"width": asked.width or 16, "height": asked.height or 16}
    pictured = {"image": Image.open(io.BytesIO(asked.image.data)), "strength": asked.strength} if asked.image else {}
    return stock(
        prompt=asked.prompt,
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance_scale or 0.0,
        num_images_per_prompt=asked.n,
        generator=generators,
        output_type="np",
        **own,
        **sized,
        **pictured,
    ).images


def prepare(engine: DiffusionEngine, name: str, asked: ImageRequest) -> Prepared:
    return engine.prepare(Task(id=TaskId(name), request=fitting(engine, asked)))


def drawn(done: Done) -> NDArray[np.float32]:
    return np.stack([pixels for _, pixels in done.raw.pictures])


def run(engine: DiffusionEngine, quantum_s: float | None = None) -> dict[str, NDArray[np.float32]]:
    """Steps until nobody is seated -> the pictures of each task."""
    done: dict[str, NDArray[np.float32]] = {}
    while engine.seated:
        events = engine.step(quantum_s).events
        done |= {task_id: drawn(event) for task_id, event in events if isinstance(event, Done)}
    return done


def alone(engine: DiffusionEngine, asked: ImageRequest) -> NDArray[np.float32]:
    assert engine.admit(prepare(engine, "alone", asked))
    return run(engine)["alone"]


@pytest.fixture(scope="session")
def stock_pictures(stock: Stock) -> Sequence[NDArray[np.float32]]:
    """Of REQUESTS."""
    return [expected(stock, asked) for asked in REQUESTS]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_a_picture_alone_is_the_stock_pipelines(
    engine: DiffusionEngine, stock_pictures: Sequence[NDArray[np.float32]], number: int
) -> None:
    found = alone(engine, REQUESTS[number])
    assert found.shape == stock_pictures[number].shape
    assert np.abs(found - stock_pictures[number]).max() < CLOSE


joins = st.lists(
    st.tuples(st.integers(0, len(REQUESTS) - 1), st.integers(0, 3), st.none() | st.integers(1, 5)),
    min_size=2,
    max_size=6,
)


@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(joins, st.sampled_from([None, 1e-9, 10.0]))
def test_in_any_company_a_picture_is_the_stock_pipelines(
    engine: DiffusionEngine,
    stock_pictures: Sequence[NDArray[np.float32]],
    arrivals: list[tuple[int, int, int | None]],
    quantum_s: float | None,
) -> None:
    """arrivals: (which request, steps before the next one, steps until it is cancelled)."""
    done: dict[str, NDArray[np.float32]] = {}
    cancels: dict[str, int] = {}
    now = 0
    for order, (number, pause, cancel_after) in enumerate(arrivals):
        name = f"{order}-{number}"
        prepared = prepare(engine, name, REQUESTS[number])
        while not engine.admit(prepared):
            now = step(engine, now, cancels, done, quantum_s)
        if cancel_after is not None:
            cancels[name] = now + cancel_after
        for _ in range(pause):
            now = step(engine, now, cancels, done, quantum_s) if engine.seated else now
    while engine.seated:
        now = step(engine, now, cancels, done, quantum_s)
    kept = {f"{order}-{number}" for order, (number, _, cancel) in enumerate(arrivals) if cancel is None}
    assert kept <= set(done)
    for name, found in done.items():
        assert np.abs(found - stock_pictures[int(name.split("-")[1])]).max() < CLOSE


def step(
    engine: DiffusionEngine, now: int, cancels: dict[str, int], done: dict[str, Any], quantum_s: float | None
) -> int:
    for name in [name for name, at in cancels.items() if at <= now]:
        engine.cancel(TaskId(name))
        del cancels[name]
    if engine.seated:
        events = engine.step(quantum_s).events
        done |= {task_id: drawn(event) for task_id, event in events if isinstance(event, Done)}
    return now + 1


def test_requests_of_one_size_share_every_denoising_step(engine: DiffusionEngine) -> None:
    for name, steps in (("short", 2), ("long", 4)):
        assert engine.admit(prepare(engine, name, request(steps=steps)))
    works = []
    while engine.seated:
        works.append(dict(engine.step(None).work))
    rows = 2 if engine._family.guidance is Guidance.PAIRS else 1
    both = {"short": rows, "long": rows}
    assert works == [both, both, both, {"short": 1}, {"long": rows}, {"long": rows}, {"long": 1}]


def test_a_short_quantum_steps_fewer_pictures_and_lets_them_take_turns(engine: DiffusionEngine) -> None:
    engine.warm_up()
    # A tiny model's own times are noise, in which two rows may seem to cost as one.
    for costs in engine._costs.values():
        for rows in (1, 2, 4) * 50:
            costs.observe(rows, float(rows))
    for name in ("first", "second"):
        assert engine.admit(prepare(engine, name, request(steps=3)))
    served = []
    while engine.seated:
        served.append(set(engine.step(1e-9).work))
    drawing = [names for names in served if len(names) == 1]
    assert len(drawing) >= 8  # 3 steps and a show of each
    assert served[2] != served[3]


def test_progress_counts_the_steps_of_all_pictures_and_showing_them(engine: DiffusionEngine) -> None:
    assert engine.admit(prepare(engine, "task", request(steps=2, n=2)))
    events = []
    while engine.seated:
        events += [event for _, event in engine.step(None).events]
    assert events[:-1] == [Progress(2 / 6, 2, 4), Progress(4 / 6, 4, 4)]
    assert isinstance(events[-1], Done)
    assert events[-1].usage.images == 2


def test_the_pictures_of_one_request_have_seeds_in_a_row(engine: DiffusionEngine) -> None:
    pair = alone(engine, request(seed=7, n=2))
    assert np.abs(pair[1] - alone(engine, request(seed=8))[0]).max() < CLOSE


def test_without_a_seed_each_request_gets_a_fresh_one(engine: DiffusionEngine) -> None:
    seeds = {prepare(engine, "task", request(seed=None)).payload.seed for _ in range(8)}
    assert len(seeds) == 8


def test_a_png_says_what_it_was_made_from(engine: DiffusionEngine) -> None:
    asked = request(prompt="ein grüner Hund 犬", negative_prompt="blurry", seed=9, n=2)
    engine.admit(prepare(engine, "task", asked))
    raws = []
    while engine.seated:
        raws += [event.raw for _, event in engine.step(None).events if isinstance(event, Done)]
    _, second = engine.finish(raws[0]).images
    assert (second.content_type, second.width, second.height, second.seed) == ("image/png", 16, 16, 10)
    picture = Image.open(io.BytesIO(second.data))
    assert picture.size == (16, 16)
    said = {"prompt": asked.prompt, "seed": "10", "steps": "4", "guidance_scale": "5", "model": "tiny"}
    own: dict[Guidance, dict[str, str]] = {
        Guidance.PAIRS: {"negative_prompt": "blurry"},
        Guidance.TOLD: {},
        Guidance.NONE: {"guidance_scale": "0"},
    }
    assert picture.info == {**said, **own[engine._family.guidance]}
    assert np.abs(np.asarray(picture) - raws[0].pictures[1][1] * 255).max() <= 0.5 + 1e-3


IMAGE_TO_IMAGE = {
    "unet": StableDiffusionImg2ImgPipeline,
    "sdxl": StableDiffusionXLImg2ImgPipeline,
    "sd3": StableDiffusion3Img2ImgPipeline,
    "flux": FluxImg2ImgPipeline,
    "schnell": FluxImg2ImgPipeline,
}


@pytest.mark.parametrize("strength", [0.4, 0.75, 1.0])
def test_image_to_image_is_the_stock_pipelines(
    engine: DiffusionEngine, stock: Stock, family: str, strength: float
) -> None:
    kept = {name: part for name, part in stock.components.items() if name not in ("image_encoder", "feature_extractor")}
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = IMAGE_TO_IMAGE[family](**{**kept, **(absent if family == "unet" else {})})
    pipeline.set_progress_bar_config(disable=True)
    asked = request(image=png_of(), strength=strength, steps=5, n=2)
    engine.admit(prepare(engine, "mate", request(steps=7)))
    engine.admit(prepare(engine, "task", asked))
    # One by one: StableDiffusion3Img2ImgPipeline gives all pictures of a call the first one's code.
    stocks = [expected(pipeline, replace(asked, n=1, seed=seed)) for seed in (11, 12)]
    assert np.abs(run(engine)["task"] - np.concatenate(stocks)).max() < CLOSE


def test_an_input_picture_gives_its_size_cut_to_what_the_model_takes(engine: DiffusionEngine) -> None:
    drawing = prepare(engine, "task", request(image=png_of(23))).payload
    assert (drawing.width, drawing.height) == (20, 20) if engine._family.pixel_multiple == 4 else (22, 22)


def test_a_step_that_the_device_fails_can_be_tried_again(
    engine: DiffusionEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = alone(engine, request())
    engine.admit(prepare(engine, "task", request()))
    engine.step(None)
    engine.step(None)
    with monkeypatch.context() as patch:
        patch.setattr(type(engine._family), "predict", _raise)
        with pytest.raises(RuntimeError, match="the device failed"):
            engine.step(None)
    assert engine.seated == 1
    assert np.abs(run(engine)["task"] - wanted).max() < CLOSE


def _raise(*_: Any) -> None:
    raise RuntimeError("the device failed")


def test_a_prepared_task_may_take_a_seat_twice(engine: DiffusionEngine) -> None:
    prepared = prepare(engine, "task", request())
    engine.admit(prepared)
    for _ in range(3):
        engine.step(None)
    engine.cancel(TaskId("task"))
    engine.admit(prepared)
    assert np.abs(run(engine)["task"] - alone(engine, request())).max() < CLOSE


def test_after_a_warm_up_it_knows_what_a_request_takes(engine: DiffusionEngine) -> None:
    engine.warm_up()
    short, long = (prepare(engine, "task", request(steps=steps)).expected_s for steps in (4, 40))
    assert 0 < short < long


def test_a_request_of_another_modality_is_refused(engine: DiffusionEngine) -> None:
    with pytest.raises(InputInvalid, match="is for text, and tiny is an image model"):
        engine.prepare(Task(id=TaskId("task"), request=TextRequest(prompt="hello")))


SCHEDULERS: dict[type, dict[str, Any]] = {  # Any: what their configurations take
    DDIMScheduler: {"clip_sample": False, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    DDPMScheduler: {"clip_sample": False},
    PNDMScheduler: {"skip_prk_steps": True},
    EulerDiscreteScheduler: {},
    EulerAncestralDiscreteScheduler: {},
    HeunDiscreteScheduler: {},
    DPMSolverMultistepScheduler: {},
    UniPCMultistepScheduler: {},
}


@pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.__name__)
def test_every_scheduler_keeps_its_own_history(
    kind: type, tmp_path: Path, load_folder: Callable[[Path], DiffusionEngine]
) -> None:
    stock = tiny_pipelines.stable_diffusion(kind(steps_offset=1, **SCHEDULERS[kind]))
    stock.set_progress_bar_config(disable=True)
    tiny_pipelines.save(stock, tmp_path)
    engine = load_folder(tmp_path)
    asked = {"early": request(steps=6), "late": request(steps=4, seed=4, guidance_scale=3.0)}
    engine.admit(prepare(engine, "early", asked["early"]))
    for _ in range(3):
        engine.step(None)
    engine.admit(prepare(engine, "late", asked["late"]))
    for name, found in run(engine).items():
        assert np.abs(found - expected(stock, asked[name])).max() < CLOSE
