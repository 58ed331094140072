"""Models shaped like Stable Diffusion 3: a flow-matching transformer that reads two CLIP encoders and perhaps a T5.

Source: diffusers' StableDiffusion3Pipeline and its image to image form, whose pictures these are.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from node.engines.diffusion.guidance import Guidance
from node.engines.diffusion.parts import Parts
from node.engines.diffusion.process import FLOW, flow_shift
from node.engines.diffusion.words import Spelled, Speller, Told, spell_for_all

_T5_TOKENS = 256  # what the pipeline gives it when nothing is said; without a T5 as many zeros stand for it


class Sd3:
    """See family.Family."""

    NEEDED: ClassVar = ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler")
    OPTIONAL: ClassVar = ("text_encoder_3", "tokenizer_3")
    steps, guidance_scale, strength = 28, 7.0, 0.6
    process, guidance = FLOW, Guidance.PAIRS

    def __init__(self, parts: Parts) -> None:
        config = parts["transformer"].config
        self.parts = parts
        self.latent_channels: int = config.in_channels
        self.pixels_per_latent = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
        self.pixel_multiple = self.pixels_per_latent * config.patch_size
        self.default_size = (config.sample_size * self.pixels_per_latent,) * 2
        self.max_side = config.pos_embed_max_size * self.pixel_multiple
        tokens = parts["tokenizer"].model_max_length
        self._spellers = [Speller(parts["tokenizer"], tokens), Speller(parts["tokenizer_2"], tokens)]
        if parts["text_encoder_3"] is not None:
            self._spellers.append(Speller(parts["tokenizer_3"], _T5_TOKENS))

    def spell(self, prompt: str) -> Spelled:
        return spell_for_all(self._spellers, prompt)

    def tell(self, prompts: Sequence[Spelled]) -> Told:
        encoders = zip(*(prompt.rows for prompt in prompts), strict=True)
        rows = [torch.tensor(encoder, device=self.parts.device) for encoder in encoders]
        first, second = (
            self.parts[name](row, output_hidden_states=True)
            for name, row in zip(("text_encoder", "text_encoder_2"), rows, strict=False)
        )
        clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        long = self._tell_t5(rows)
        text = torch.cat([pad(clip, (0, long.shape[-1] - clip.shape[-1])), long], dim=-2)
        return text, torch.cat([first[0], second[0]], dim=-1)

    def set_times(self, scheduler: Any, steps: int, width: int, height: int) -> None:
        if scheduler.config.get("use_dynamic_shifting"):
            patches = (width // self.pixel_multiple) * (height // self.pixel_multiple)
            scheduler.set_timesteps(steps, mu=flow_shift(scheduler.config, patches, high=1.16))
        else:
            scheduler.set_timesteps(steps)

    def predict(self, latents: Tensor, times: Tensor, told: Told, guidance: Tensor) -> Tensor:  # noqa: ARG002 - by pairs
        text, pooled = told
        return self.parts["transformer"](
            latents, timestep=times, encoder_hidden_states=text, pooled_projections=pooled, return_dict=False
        )[0]

    def _tell_t5(self, rows: Sequence[Tensor]) -> Tensor:
        if (encoder := self.parts["text_encoder_3"]) is not None:
            return encoder(rows[2])[0].to(self.parts.dtype)
        width = self.parts["transformer"].config.joint_attention_dim
        return torch.zeros(len(rows[0]), _T5_TOKENS, width, device=self.parts.device, dtype=self.parts.dtype)
