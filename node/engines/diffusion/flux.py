"""Models shaped like Flux: a flow-matching transformer over packed latents that reads a pooled CLIP text and a T5.

Source: diffusers' FluxPipeline and its image to image form, whose pictures these are.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import Parts
from node.engines.diffusion.process import FLOW, flow_shift
from node.engines.diffusion.words import Spelled, Speller, Told, spell_for_all

_T5_TOKENS = 512  # what the pipeline gives it when nothing is said
_TRAINED_TIMES = 1000
_PATCH = 2  # latents along a side that the transformer reads as one


class Flux:
    """See family.Family. Its latents are packed for the transformer alone."""

    NEEDED: ClassVar = ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler")
    OPTIONAL: ClassVar = ()
    steps, guidance_scale, strength = 28, 3.5, 0.6
    max_side = None
    process = FLOW

    def __init__(self, parts: Parts) -> None:
        config, vae = parts["transformer"].config, parts["vae"].config
        self.parts = parts
        self.guidance = Guidance.TOLD if config.guidance_embeds else Guidance.NONE
        self.latent_channels: int = config.in_channels // _PATCH**2
        self.pixels_per_latent = 2 ** (len(vae.block_out_channels) - 1)
        self.pixel_multiple = _PATCH * self.pixels_per_latent
        self.default_size = vae.sample_size, vae.sample_size
        tokens = parts["tokenizer"].model_max_length, min(_T5_TOKENS, parts["tokenizer_2"].model_max_length)
        names = ("tokenizer", "tokenizer_2")
        self._spellers = [Speller(parts[name], most) for name, most in zip(names, tokens, strict=True)]

    def spell(self, prompt: str) -> Spelled:
        return spell_for_all(self._spellers, prompt)

    def tell(self, prompts: Sequence[Spelled]) -> Told:
        encoders = zip(*(prompt.rows for prompt in prompts), strict=True)
        clip, long = (torch.tensor(rows, device=self.parts.device) for rows in encoders)
        text = self.parts["text_encoder_2"](long)[0]
        pooled = self.parts["text_encoder"](clip).pooler_output
        return text.to(self.parts.dtype), pooled.to(self.parts.dtype)

    def set_times(self, scheduler: Any, steps: int, width: int, height: int) -> None:
        patches = (width // self.pixel_multiple) * (height // self.pixel_multiple)
        shift = flow_shift(scheduler.config, patches, high=1.15)
        if scheduler.config.get("use_flow_sigmas"):
            scheduler.set_timesteps(steps, mu=shift)
        else:
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)

    def predict(self, latents: Tensor, times: Tensor, told: Told, guidance: Tensor) -> Tensor:
        text, pooled = told
        rows, channels, height, width = latents.shape
        high, wide = height // _PATCH, width // _PATCH
        blocks = latents.view(rows, channels, high, _PATCH, wide, _PATCH).permute(0, 2, 4, 1, 3, 5)
        found = self.parts["transformer"](
            hidden_states=blocks.reshape(rows, high * wide, channels * _PATCH**2),
            timestep=times.to(latents.dtype) / _TRAINED_TIMES,
            guidance=guidance if self.guidance is Guidance.TOLD else None,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            txt_ids=text.new_zeros(text.shape[1], 3),
            img_ids=_places(high, wide).to(latents.device, latents.dtype),
            return_dict=False,
        )[0]
        blocks = found.view(rows, high, wide, channels, _PATCH, _PATCH).permute(0, 3, 1, 4, 2, 5)
        return blocks.reshape(rows, channels, height, width)


def _places(high: int, wide: int) -> Tensor:
    """Where each patch is, (patches, 3): nothing, row, column."""
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).view(-1, 3)
