"""The autoencoder between pixels and latents, with the scale and shift that the denoiser was trained on."""

from dataclasses import dataclass
from typing import Any

from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Vae:
    module: Any  # an autoencoder of diffusers

    def read(self, pixels: Tensor) -> Tensor:
        """What `code` draws from, one row a picture. pixels: (pictures, 3, height, width), -1 to 1."""
        return self.module.encode(pixels).latent_dist.parameters

    def code(self, read: Tensor, generator: Generator) -> Tensor:
        """Latents (1, channels, height, width) of one row of `read`."""
        sample = DiagonalGaussianDistribution(read).sample(generator)
        return (sample - (self.module.config.shift_factor or 0.0)) * self.module.config.scaling_factor

    def show(self, latents: Tensor) -> Tensor:
        """Pixels (pictures, height, width, 3), 0 to 1, in float32 on the host."""
        unscaled = latents / self.module.config.scaling_factor + (self.module.config.shift_factor or 0.0)
        shown = self.module.decode(unscaled, return_dict=False)[0]
        return (shown * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu()
