"""Models shaped like Stable Diffusion XL: a UNet that reads two CLIP encoders, a pooled text and the size of the picture.

Source: diffusers' StableDiffusionXLPipeline and its image to image form, whose pictures these are.
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


class Sdxl:
    """See family.Family."""

    NEEDED: ClassVar = ("unet", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler")
    OPTIONAL: ClassVar = ()
    steps, guidance_scale, strength = 50, 5.0, 0.3
    max_side = None
    process, guidance = DIFFUSION, Guidance.PAIRS

    def __init__(self, parts: Parts) -> None:
        config = parts["unet"].config
        if config.addition_embed_type != "text_time" or config.time_cond_proj_dim is not None:
            raise LoadFailed("the UNet is not told a pooled text and a size: only those of Stable Diffusion XL run")
        if parts.options.get("requires_aesthetics_score"):
            raise LoadFailed(
                "it wants an aesthetic score: the refiner of Stable Diffusion XL does not run, its base does"
            )
        self.parts = parts
        self.latent_channels: int = config.in_channels
        self.pixels_per_latent = self.pixel_multiple = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
        self.default_size = (config.sample_size * self.pixels_per_latent,) * 2
        self._spellers = [Speller(parts[name], parts[name].model_max_length) for name in ("tokenizer", "tokenizer_2")]
        self._is_nothing_zero = bool(parts.options.get("force_zeros_for_empty_prompt", True))

    def spell(self, prompt: str) -> Spelled:
        return spell_for_all(self._spellers, prompt)

    def tell(self, prompts: Sequence[Spelled]) -> Told:
        encoders = zip(*(prompt.rows for prompt in prompts), strict=True)
        first, second = (
            self.parts[name](torch.tensor(rows, device=self.parts.device), output_hidden_states=True)
            for name, rows in zip(("text_encoder", "text_encoder_2"), encoders, strict=True)
        )
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return self._without_nothing(prompts, text), self._without_nothing(prompts, second[0])

    def set_times(self, scheduler: Any, steps: int, width: int, height: int) -> None:  # noqa: ARG002 - any size alike
        scheduler.set_timesteps(steps)

    def predict(self, latents: Tensor, times: Tensor, told: Told, guidance: Tensor) -> Tensor:  # noqa: ARG002 - by pairs
        text, pooled = told
        height, width = (side * self.pixels_per_latent for side in latents.shape[-2:])
        whole = (height, width, 0, 0, height, width)  # original size, where it was cut, target size
        sizes = torch.tensor([whole], dtype=text.dtype, device=text.device).expand(len(latents), -1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.parts["unet"](
            latents, times, encoder_hidden_states=text, added_cond_kwargs=added, return_dict=False
        )[0]

    def _without_nothing(self, prompts: Sequence[Spelled], encoded: Tensor) -> Tensor:
        """No words at all are zeros to most of these models, not what the encoders make of an empty text."""
        if not self._is_nothing_zero:
            return encoded
        is_said = torch.tensor([bool(prompt.text) for prompt in prompts], device=encoded.device)
        return torch.where(is_said.view(-1, *[1] * (encoded.ndim - 1)), encoded, torch.zeros_like(encoded))
