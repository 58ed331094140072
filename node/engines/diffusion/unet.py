"""Models shaped like Stable Diffusion 1.x and 2.x: a UNet that reads one CLIP text encoder.

Source: diffusers' StableDiffusionPipeline and its image to image form, whose pictures these are.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import Parts
from node.engines.diffusion.process import DIFFUSION
from node.engines.diffusion.words import Spelled, Speller, Told, spell_for_all
from protos.errors import LoadFailed


class UnetFamily:
    """See family.Family."""

    NEEDED: ClassVar = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    OPTIONAL: ClassVar = ()
    steps, guidance_scale, strength = 50, 7.5, 0.8
    max_side = None
    process, guidance = DIFFUSION, Guidance.PAIRS

    def __init__(self, parts: Parts) -> None:
        config = parts["unet"].config
        # "text" is made of what cross-attention reads; all others need inputs of their own.
        more = config.addition_embed_type not in (None, "text") or config.class_embed_type
        if config.time_cond_proj_dim is not None or more:
            raise LoadFailed(
                "the UNet wants more than a time and a text: only those of Stable Diffusion 1.x and 2.x run"
            )
        if getattr(parts["text_encoder"].config, "use_attention_mask", False):
            raise LoadFailed(
                "the text encoder wants an attention mask: only encoders like CLIP's, which see padding, run"
            )
        self.parts = parts
        self.latent_channels: int = config.in_channels
        self.pixels_per_latent = self.pixel_multiple = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
        side = config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.default_size = width * self.pixels_per_latent, height * self.pixels_per_latent
        self._speller = Speller(parts["tokenizer"], parts["tokenizer"].model_max_length)

    def spell(self, prompt: str) -> Spelled:
        return spell_for_all([self._speller], prompt)

    def tell(self, prompts: Sequence[Spelled]) -> Told:
        rows = torch.tensor([prompt.rows[0] for prompt in prompts], device=self.parts.device)
        return (self.parts["text_encoder"](rows)[0],)

    def set_times(self, scheduler: Any, steps: int, width: int, height: int) -> None:  # noqa: ARG002 - any size alike
        scheduler.set_timesteps(steps)

    def predict(self, latents: Tensor, times: Tensor, told: Told, guidance: Tensor) -> Tensor:  # noqa: ARG002 - by pairs
        return self.parts["unet"](latents, times, encoder_hidden_states=told[0], return_dict=False)[0]
