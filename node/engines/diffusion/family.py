"""What the engine asks of a kind of diffusion model: the protocol of its adapters, and how they are found.

The next kind is one module and one line here. Not about requests (drawing.py) nor about batches (turns.py).
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from diffusers import AutoencoderKL
from torch import Tensor

from node.engine import DeviceSpec, ModelSpec
from node.engines.diffusion.flux import Flux
from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import Parts, load_parts, read_index
from node.engines.diffusion.process import Process, Scheduler
from node.engines.diffusion.sd3 import Sd3
from node.engines.diffusion.sdxl import Sdxl
from node.engines.diffusion.unet import UnetFamily
from node.engines.diffusion.words import Spelled, Told
from protos.errors import LoadFailed


class Family(Protocol):
    """One loaded model. `spell` and `set_times` run on many threads; the others on the loop thread."""

    parts: Parts
    process: Process
    guidance: Guidance
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

    def set_times(self, scheduler: Scheduler, steps: int, width: int, height: int) -> None:
        """On the host. Raises ValueError when it cannot make so many."""
        ...

    def predict(self, latents: Tensor, times: Tensor, told: Told, guidance: Tensor) -> Tensor:
        """One forward. latents: (rows, channels, height, width); times: (rows,); guidance: (rows,), where it is told."""
        ...


AnyFamily: TypeAlias = type[UnetFamily] | type[Sdxl] | type[Sd3] | type[Flux]

FAMILIES: Final[Mapping[str, AnyFamily]] = {
    "StableDiffusionPipeline": UnetFamily,
    "StableDiffusionImg2ImgPipeline": UnetFamily,
    "StableDiffusionXLPipeline": Sdxl,
    "StableDiffusionXLImg2ImgPipeline": Sdxl,
    "StableDiffusion3Pipeline": Sd3,
    "StableDiffusion3Img2ImgPipeline": Sd3,
    "FluxPipeline": Flux,
    "FluxImg2ImgPipeline": Flux,
}


def load_family(spec: ModelSpec, device: DeviceSpec) -> Family:
    """Raises LoadFailed or DoesNotFit."""
    index = read_index(spec)
    if index.pipeline not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise LoadFailed(f"{spec.id} is a {index.pipeline}, which this engine cannot step: use one of {known}")
    make = FAMILIES[index.pipeline]
    parts = load_parts(spec, device, index, make.NEEDED, make.OPTIONAL)
    if not isinstance(parts["vae"], AutoencoderKL):
        raise LoadFailed(f"the vae of {spec.id} is a {type(parts['vae']).__name__}: only AutoencoderKL runs")
    return make(parts)
