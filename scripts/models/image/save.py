"""A folder that StableDiffusionPipeline and the diffusion engine load, around trained parts or random ones."""

import json
from pathlib import Path
from typing import Annotated, Final

import diffusers
import torch
import typer

from scripts.models.image.codes import fold_world, put_into
from scripts.models.image.model import build_scheduler, build_text_encoder, build_unet, build_vae
from scripts.models.image.tokenizer import build_tokenizer
from scripts.models.image.world import words

STEPS: Final = 20
GUIDANCE_SCALE: Final = 3.0


def write_index(out: Path) -> None:
    """What the parts are, and what requests get that say nothing."""
    transformers = {"text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
    stock = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **{name: ["transformers", kind] for name, kind in transformers.items()},
        **{name: ["diffusers", kind] for name, kind in stock.items()},
    }
    usual = {"steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
    for name, said in {"model_index.json": index, "fabric.json": usual}.items():
        (out / name).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def save_random(out: Path) -> None:
    """An untrained model of the same shape: its pictures mean nothing and take as long."""
    torch.manual_seed(0)
    tokenizer, vae = build_tokenizer(words()), build_vae()
    put_into(vae, fold_world())
    parts = {"unet": build_unet(), "vae": vae, "text_encoder": build_text_encoder(tokenizer), "tokenizer": tokenizer}
    for name, part in {**parts, "scheduler": build_scheduler()}.items():
        part.save_pretrained(out / name)
    write_index(out)


def main(out: Annotated[Path, typer.Option(help="folder with the trained parts")]) -> None:
    write_index(out)


if __name__ == "__main__":
    typer.run(main)
