"""The two ways from noise to a picture, diffusion and the matching of flows, each with its schedulers.

The schedulers are diffusers'; a request gets one of its own. Not about what a denoiser is told (unet.py, sdxl.py, ...).
"""

import copy
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Protocol, TypeAlias

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from protos.types import ImageScheduler

Scheduler: TypeAlias = Any  # schedulers of diffusers share no type but a mixin without methods


class Process(Protocol):
    name: str  # of what its models do
    schedulers: Mapping[ImageScheduler, type]

    def skipped(self, steps: int, strength: float) -> int:
        """How many of the steps an input picture saves."""
        ...

    def first_latents(self, scheduler: Scheduler, noise: Tensor) -> Tensor: ...

    def noised(self, scheduler: Scheduler, code: Tensor, noise: Tensor, time: Tensor) -> Tensor: ...

    def foreseen(self, scheduler: Scheduler, seen: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """The latents that one prediction expects at the end. seen: what the denoiser saw; time: on the host."""
        ...


def new_scheduler(process: Process, own: Scheduler, name: ImageScheduler | None) -> Scheduler:
    """The model's own, or the one asked for with all that the model's says. `name` is one of the process's."""
    if name is None:
        return type(own).from_config(own.config)
    wanted = process.schedulers[name]
    return wanted.from_config(own.config, **({} if wanted is type(own) else _unsaid(name, own.config)))


def fresh(scheduler: Scheduler) -> Scheduler:
    """A copy with a history of its own. A history is in lists; arrays are replaced, never written to, and may be shared: to
    make one anew took 2 ms, to copy it whole half a millisecond."""
    made = copy.copy(scheduler)
    vars(made).update({name: value.copy() for name, value in vars(made).items() if isinstance(value, list)})
    return made


def _unsaid(name: ImageScheduler, config: Mapping[str, Any]) -> dict[str, Any]:  # Any: as the schedulers take it
    """What another scheduler's configuration leaves to defaults that do not fit."""
    match name:
        case "ddim":  # its default clips to -1 .. 1, which is right for pixels and wrong for latents
            return {"clip_sample": config.get("clip_sample", False)}
        case "dpmpp_2m":
            return {"algorithm_type": "dpmsolver++", "solver_order": 2}
        case _:
            return {}


class Diffusion:
    """Denoises step by step. Source: Ho et al. 2020; what is predicted: Salimans and Ho 2022."""

    name = "diffusion"
    schedulers: Mapping[ImageScheduler, type] = {
        "ddim": DDIMScheduler,
        "euler": EulerDiscreteScheduler,
        "euler_ancestral": EulerAncestralDiscreteScheduler,
        "dpmpp_2m": DPMSolverMultistepScheduler,
    }

    def skipped(self, steps: int, strength: float) -> int:
        return steps - min(int(steps * strength), steps)

    def first_latents(self, scheduler: Scheduler, noise: Tensor) -> Tensor:
        return noise * scheduler.init_noise_sigma

    def noised(self, scheduler: Scheduler, code: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        return scheduler.add_noise(code, noise, time)

    def foreseen(self, scheduler: Scheduler, seen: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        if not hasattr(scheduler, "alphas_cumprod"):  # those that count in other noise levels
            return seen
        share = float(scheduler.alphas_cumprod[round(float(time))])
        signal, noise = share**0.5, (1 - share) ** 0.5
        match scheduler.config.prediction_type:
            case "epsilon":
                return (seen - noise * prediction) / max(signal, 1e-3)  # all noise: where the signal begins at nothing
            case "v_prediction":
                return signal * seen - noise * prediction
            case _:  # "sample"
                return prediction


class Flow:
    """Follows the straight way from noise to data. Source: Lipman et al. 2022; Esser et al. 2024."""

    name = "flow matching"
    schedulers: Mapping[ImageScheduler, type] = {"flow_euler": FlowMatchEulerDiscreteScheduler}

    def skipped(self, steps: int, strength: float) -> int:
        return int(max(steps - min(steps * strength, steps), 0))

    def first_latents(self, scheduler: Scheduler, noise: Tensor) -> Tensor:  # noqa: ARG002 - a flow begins at pure noise
        return noise

    def noised(self, scheduler: Scheduler, code: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        return scheduler.scale_noise(code, time, noise)

    def foreseen(self, scheduler: Scheduler, seen: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        return seen - float(time) / scheduler.config.num_train_timesteps * prediction


DIFFUSION: Final = Diffusion()
FLOW: Final = Flow()


def flow_shift(config: Mapping[str, Any], patches: int, high: float) -> float:  # Any: a scheduler's configuration
    """How far a flow's times move to the noise for so many patches. high: where the configuration names no `max_shift`.

    Source: calculate_shift in diffusers' pipelines of Stable Diffusion 3 and Flux.
    """
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", high)
    return low + (high - low) * (patches - few) / (many - few)


@cache
def takes_chance(kind: type) -> bool:
    """Whether the steps of such a scheduler draw from a generator: the request's own."""
    return "generator" in inspect.signature(kind.step).parameters
