"""Prints how often pictures show what was asked for: `python -m scripts.models.image.evaluate models/fabric-image`."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from scripts.models.image.marks import shown
from scripts.models.image.world import COLOURS, PLACES, SHAPES, SIZES, Scene, plain_prompt

ROWS = 20
FIELDS = ("colour", "shape", "size", "place")


def draw(
    pipeline: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> NDArray[np.uint8]:
    """(prompts, 64, 64, 3)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = pipeline(
        list(prompts), num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
    )
    return (drawn.images * 255).round().astype(np.uint8)


def exam(seeds: int) -> list[tuple[Scene, int]]:
    """Every colour and shape at each seed; sizes and places in turn, so that all come up."""
    others = list(product(SIZES, PLACES))
    pairs = list(product(COLOURS, SHAPES))
    return [
        (Scene(*pair, *others[(place * seeds + seed) % len(others)]), seed)
        for place, pair in enumerate(pairs)
        for seed in range(seeds)
    ]


def main(
    folder: Annotated[Path, typer.Argument(help="folder of the model")],
    seeds: Annotated[int, typer.Option(help="pictures of each colour and shape")] = 4,
    steps: int = 20,
    guidance: float = 3.0,
) -> None:
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    asked, right = exam(seeds), Counter[str]()
    for start in range(0, len(asked), ROWS):
        part = asked[start : start + ROWS]
        pictures = draw(
            pipeline, [plain_prompt(scene) for scene, _ in part], [seed for _, seed in part], steps, guidance
        )
        for (scene, _), picture in zip(part, pictures, strict=True):
            found = shown(picture)
            fields = [field for field in FIELDS if found and getattr(found, field) == getattr(scene, field)]
            right.update([*fields, *(["all four"] if len(fields) == len(FIELDS) else [])])
    for field in (*FIELDS, "all four"):
        print(f"| {field} | {right[field]} of {len(asked)} | {right[field] / len(asked):.1%} |")


if __name__ == "__main__":
    typer.run(main)
