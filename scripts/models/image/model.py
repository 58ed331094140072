"""The shape of the image model: the parts of a Stable Diffusion 1.x pipeline, small."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.models.image.codes import KEPT
from scripts.models.image.tokenizer import MAX_TOKENS
from scripts.models.image.world import SIDE

_TEXT_WIDTH = 64
_LATENT_SIDE = SIDE // 8
_LATENT_CHANNELS = KEPT[-1]
_EDGE_LIGHT = 5.0  # several times what the other channels make of noise


def build_vae() -> AutoencoderKL:
    """64 x 64 pixels to 12 x 8 x 8 numbers and back; the codes are scaled already."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=1,  # more would level the contrast of each pair of channels, and with it the colour
        sample_size=SIDE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=2 * _TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=_TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=_LATENT_SIDE,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        # Every block hears the whole text and scales its channels by it, not the attention alone.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    _light_the_edges(unet)
    return unet


@torch.no_grad()
def _light_the_edges(unet: UNet2DConditionModel) -> None:
    """Half of the first channels start as constants, whatever the noise: next to them the zeros that convolutions are
    padded with tell where the edges are. Without it the places that prompts name were still those of chance after 2,400
    steps; with it they are learned in the first 150, for most seeds and not for all.
    """
    conv = unet.conv_in
    conv.weight[::2] = 0.0
    conv.bias[::2] = _EDGE_LIGHT * torch.randn_like(conv.bias[::2])


def build_scheduler() -> DDIMScheduler:
    """The cosine schedule ends in pure noise, so the white of the background is learned too; velocity is defined there.

    Source: Nichol and Dhariwal 2021, section 3.2; Lin et al. 2023, "Common diffusion noise schedules are flawed".
    """
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What draws, and what goes with it."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
