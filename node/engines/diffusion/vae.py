"""The autoencoder between pixels and latents, with the scale and shift that the denoiser was trained on.

It computes in its own precision, which may be a higher one than the denoiser's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Vae:
    module: Any  # an AutoencoderKL of diffusers

    @property
    def pixels_per_latent(self) -> int:
        return 2 ** (len(self.module.config.block_out_channels) - 1)

    @property
    def tile_side(self) -> int:
        """Latents along a side that one call takes at most: what it was trained on, where diffusers would cut too."""
        return int(self.module.tile_latent_min_size)

    def read(self, pixels: Tensor) -> Tensor:
        """What `code` draws from, one row a picture. pixels: (pictures, 3, height, width), -1 to 1."""
        return self.module.encode(pixels.to(self.module.dtype)).latent_dist.parameters

    def code(self, read: Tensor, generator: Generator | None) -> Tensor:
        """Latents (1, channels, height, width) of one row of `read`; None: the most likely ones."""
        distribution = DiagonalGaussianDistribution(read)
        sample = distribution.mode() if generator is None else distribution.sample(generator)
        mean, scale = self._standard(sample)
        return (sample - mean) * scale

    def show(self, latents: Tensor) -> Tensor:
        """Pixels (pictures, 3, height, width), -1 to 1 but for what overshoots, in float32 on the host."""
        mean, scale = self._standard(latents)
        unscaled = (latents / scale + mean).to(self.module.dtype)
        return self.module.decode(unscaled, return_dict=False)[0].float().cpu()

    def _standard(self, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """What the denoiser's latents have had taken off, and were then multiplied by: a number, or one a channel."""
        config = self.module.config
        if config.get("latents_mean") is None or config.get("latents_std") is None:
            return config.get("shift_factor") or 0.0, config.scaling_factor
        mean, deviation = (
            torch.tensor(config[name], device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        return mean, config.scaling_factor / deviation
