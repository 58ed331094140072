"""Tiny random diffusion pipelines in the real formats, made on the spot: all that matters but the size and the sense."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

TOKENS = 24  # of a prompt; one a letter
WIDTH = 16  # of a text encoder
SIDE = 16  # pixels


def tokenizer() -> CLIPTokenizer:
    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        initializer_factor=4.0,  # so that the prompt matters
    )


def vae(**changes: Any) -> AutoencoderKL:  # Any: whatever its configuration takes
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIDE,
        mid_block_add_attention=False,
        **changes,
    )


def stable_diffusion(scheduler: Any = None) -> StableDiffusionPipeline:  # Any: a scheduler of diffusers
    torch.manual_seed(0)
    words = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(words)),
        tokenizer=words,
        unet=unet,
        scheduler=scheduler or DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_3() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    words = tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        vae=vae(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=CLIPTextModelWithProjection(text_config(words)),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(text_config(words)),
        tokenizer_2=words,
        text_encoder_3=None,
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def stable_diffusion_xl(**options: Any) -> StableDiffusionXLPipeline:  # Any: of its configuration
    torch.manual_seed(0)
    words = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        norm_num_groups=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=WIDTH + 6 * 4,
    )
    return StableDiffusionXLPipeline(
        vae=vae(force_upcast=True),
        text_encoder=CLIPTextModel(text_config(words)),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(text_config(words)),
        tokenizer_2=words,
        unet=unet,
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
        **options,
    )


def long_tokenizer() -> T5TokenizerFast:
    """One token a letter, as T5 splits unknown words."""
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *map(chr, range(33, 127))]
    return T5TokenizerFast(vocab=[(piece, -1.0) for piece in pieces], model_max_length=TOKENS, extra_ids=0)


def flux(*, is_told_guidance: bool = True) -> FluxPipeline:
    """Like dev; without the guidance like schnell."""
    torch.manual_seed(0)
    words, letters = tokenizer(), long_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=is_told_guidance,
        axes_dims_rope=(4, 6, 6),
    )
    t5 = T5Config(
        vocab_size=len(letters),
        d_model=WIDTH,
        d_kv=8,
        d_ff=WIDTH,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        initializer_factor=4.0,
    )
    return FluxPipeline(
        transformer=transformer,
        vae=vae(shift_factor=0.1, scaling_factor=0.4),
        text_encoder=CLIPTextModel(text_config(words)),
        tokenizer=words,
        text_encoder_2=T5EncoderModel(t5).eval(),  # it would drop out at random
        tokenizer_2=letters,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=is_told_guidance),
    )


def flux_schnell() -> FluxPipeline:
    return flux(is_told_guidance=False)


def save(pipeline: Any, folder: Path) -> str:  # Any: a pipeline of diffusers
    pipeline.save_pretrained(folder)
    return str(folder)
