"""A request may name its scheduler: what it draws is the stock pipeline's with that scheduler, in company of others."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny_pipelines
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

from node.engine import Done
from node.engines.diffusion.engine import DiffusionEngine
from node.engines.diffusion.process import DIFFUSION, FLOW, fresh, new_scheduler, takes_chance
from protos.types import ImageRequest, ImageScheduler, Task, TaskId

CLOSE = 1e-5
OWN: dict[str, Any] = {  # Any: schedulers of diffusers
    "epsilon": DDIMScheduler(clip_sample=False, steps_offset=1),
    "v_prediction": DDIMScheduler(
        clip_sample=False, steps_offset=1, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
    "stable diffusion 1.5": PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
}
STOCK: dict[ImageScheduler, tuple[Any, dict[str, Any]]] = {  # what users of diffusers put in the place of the model's
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}


def asked(name: ImageScheduler, number: int) -> ImageRequest:
    return ImageRequest(prompt="a red dog", steps=3 + number, guidance_scale=4.0, seed=number, scheduler=name)


@pytest.mark.parametrize("own", OWN.values(), ids=OWN.keys())
def test_each_of_a_batch_has_the_scheduler_that_it_names(
    own: Any, tmp_path: Path, load_folder: Callable[[Path], DiffusionEngine]
) -> None:
    tiny_pipelines.save(tiny_pipelines.stable_diffusion(own), tmp_path)
    engine = load_folder(tmp_path)
    requests = {name: asked(name, number) for number, name in enumerate(STOCK)}
    done = {}
    for name, request in requests.items():
        assert engine.admit(engine.prepare(Task(id=TaskId(name), request=request)))
        engine.step(None)
    while engine.seated:
        done |= {name: event.raw for name, event in engine.step(None).events if isinstance(event, Done)}
    stock = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    saved = stock.scheduler.config  # says more than `own`: in a file each default is a word of the model's
    for name, request in requests.items():
        kind, changes = STOCK[name]
        stock.scheduler = kind.from_config(saved, **changes)
        wanted = stock(
            request.prompt,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed or 0),
            output_type="np",
        ).images[0]
        assert np.abs(done[TaskId(name)].pictures[0][1] - wanted).max() < CLOSE


OTHERS = [
    PNDMScheduler(skip_prk_steps=True),
    HeunDiscreteScheduler(),
    LMSDiscreteScheduler(),
    UniPCMultistepScheduler(),
]
ALL = [
    *(new_scheduler(DIFFUSION, OWN["epsilon"], name) for name in DIFFUSION.schedulers),
    *OTHERS,  # that a model may bring as its own
    FlowMatchEulerDiscreteScheduler(),
]


@pytest.mark.parametrize("scheduler", ALL, ids=lambda scheduler: type(scheduler).__name__)
def test_the_steps_of_one_picture_leave_no_trace_in_the_scheduler_that_others_copy(scheduler: Any) -> None:
    scheduler.set_timesteps(6)
    before = {name: copy.deepcopy(value) for name, value in vars(scheduler).items()}
    one = fresh(scheduler)
    chance = {"generator": torch.Generator()} if takes_chance(type(one)) else {}
    latents = torch.ones(1, 4, 8, 8)
    for time in one.timesteps:
        seen = one.scale_model_input(latents, time) if hasattr(one, "scale_model_input") else latents
        latents = one.step(seen * 0.1, time, latents, **chance).prev_sample
    for name, value in vars(scheduler).items():
        assert str(value) == str(before[name]), name


def test_every_name_belongs_to_one_process() -> None:
    assert sorted([*DIFFUSION.schedulers, *FLOW.schedulers]) == sorted(get_args(ImageScheduler))


def test_latents_are_not_clipped_where_the_models_own_scheduler_has_no_such_word() -> None:
    assert not new_scheduler(DIFFUSION, EulerDiscreteScheduler(), "ddim").config.clip_sample


def test_another_solver_keeps_what_the_model_was_trained_with() -> None:
    made = new_scheduler(DIFFUSION, OWN["v_prediction"], "dpmpp_2m")
    assert isinstance(made, DPMSolverMultistepScheduler)
    assert (made.config.prediction_type, made.config.timestep_spacing) == ("v_prediction", "trailing")
    assert (made.config.algorithm_type, made.config.solver_order) == ("dpmsolver++", 2)
