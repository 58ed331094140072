"""What the engine asks of a kind of diffusion model: the protocol of its adapters, and how they are found.

The next kind is one module and one line here. Not about requests (drawing.py) nor about batches (turns.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from torch import Tensor

from node.engine import DeviceSpec, ModelSpec
from node.engines.diffusion.parts import Parts, load_parts, read_index
from node.engines.diffusion.sd3 import Sd3
from node.engines.diffusion.unet import UnetFamily
from node.engines.diffusion.words import Spelled, Told
from protos.errors import LoadFailed

Scheduler: TypeAlias = Any  # schedulers of diffusers share no type but a mixin without methods


class Family(Protocol):
    """One loaded model. `spell`, `schedule` and `skipped` run on many threads; the others on the loop thread."""

    parts: Parts
    latent_channels: int
    pixels_per_latent: int  # along an axis
    pixel_multiple: int  # width and height are multiples of it
    default_size: tuple[int, int]  # width, height
    max_side: int | None  # pixels; None: the model sets no bound
    steps: int  # these three: what its pipeline does when nothing is said
    guidance_scale: float
    strength: float

    def spell(self, prompt: str) -> Spelled:
        """Raises TooLongError."""
        ...

    def tell(self, prompts: Sequence[Spelled]) -> Told: ...

    def schedule(self, steps: int, width: int, height: int) -> Scheduler:
        """A scheduler with its timesteps set, on the host. Raises ValueError when it cannot make so many."""
        ...

    def skipped(self, steps: int, strength: float) -> int:
        """How many of the steps an input picture saves."""
        ...

    def first_latents(self, scheduler: Scheduler, noise: Tensor) -> Tensor: ...

    def noised(self, scheduler: Scheduler, code: Tensor, noise: Tensor, time: Tensor) -> Tensor: ...

    def predict(self, latents: Tensor, times: Tensor, told: Told) -> Tensor:
        """One forward. latents: (rows, channels, height, width); times: (rows,)."""
        ...


FAMILIES: Final[Mapping[str, type[UnetFamily] | type[Sd3]]] = {
    "StableDiffusionPipeline": UnetFamily,
    "StableDiffusionImg2ImgPipeline": UnetFamily,
    "StableDiffusion3Pipeline": Sd3,
    "StableDiffusion3Img2ImgPipeline": Sd3,
}


def load_family(spec: ModelSpec, device: DeviceSpec) -> Family:
    """Raises LoadFailed or DoesNotFit."""
    index = read_index(spec)
    if index.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise LoadFailed(f"{spec.id} is a {index.pipeline}, which this engine cannot step: use one of {known}")
    make = FAMILIES[index.pipeline]
    return make(load_parts(spec, device, index, make.NEEDED, make.OPTIONAL))
