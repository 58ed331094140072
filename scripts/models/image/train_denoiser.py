"""Trains what draws codes from words: `python -m scripts.models.image.train_denoiser --out models/fabric-image`."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scripts.models.image.codes import fold_world
from scripts.models.image.model import Parts, build_scheduler, build_text_encoder, build_unet
from scripts.models.image.tokenizer import build_tokenizer
from scripts.models.image.training import fit, report, start_repeatably
from scripts.models.image.world import Scene, all_scenes, any_prompt, picture_tensor, words

BATCH = 32
PEAK_RATE = 2e-3
KEPT_AVERAGE = 0.996  # the mean of the last 250 steps or so draws better than any one of them
UNTOLD = 0.1  # share of pictures without a prompt: what guidance pushes away from
SAVE_EVERY = 200  # steps
PLACES_FIRST = 400  # steps


@dataclass(frozen=True, slots=True)
class World:
    """Every scene with the code of its picture, (scenes, channels, 8, 8)."""

    scenes: Sequence[Scene]
    codes: Tensor


def loss_of(parts: Parts, world: World, random: Random, step: int) -> Tensor:
    """Mean square error of the velocity, at a random time of each picture."""
    picked = torch.randint(len(world.scenes), (BATCH,))
    codes, times = world.codes[picked], some_times(parts.scheduler.config.num_train_timesteps, step)
    noise = torch.randn_like(codes)
    prompts = [told(world.scenes[place], random) for place in picked.tolist()]
    found = parts.unet(parts.scheduler.add_noise(codes, noise, times), times, read(parts, prompts)).sample
    return (found - parts.scheduler.get_velocity(codes, noise, times)).square().mean()


def some_times(times: int, step: int) -> Tensor:
    """At first the noisiest tenth alone: where a shape goes is decided there and nowhere else, and once the rest is learned
    without the words for places they are never listened to again (after 2,400 steps places were still those of chance).
    Then half of them anywhere, half among the noisiest quarter."""
    if step < PLACES_FIRST:
        return torch.randint(times * 9 // 10, times, (BATCH,))
    anywhere, noisiest = torch.randint(times, (BATCH // 2,)), torch.randint(times * 3 // 4, times, (BATCH // 2,))
    return torch.cat([anywhere, noisiest])


def told(scene: Scene, random: Random) -> str:
    return "" if random.random() < UNTOLD else any_prompt(scene, random)


def read(parts: Parts, prompts: Sequence[str]) -> Tensor:
    """What the denoiser is told, (prompts, tokens, width): as the pipeline does it, padded to the full length."""
    tokens = parts.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
    return parts.text_encoder(tokens.input_ids).last_hidden_state


def save(parts: Parts, averaged: AveragedModel, out: Path) -> None:
    """All but the autoencoder, which the other half of the training has put there."""
    unet, text_encoder = build_unet(), build_text_encoder(parts.tokenizer)
    nn.ModuleList([unet, text_encoder]).load_state_dict(averaged.module.state_dict())
    for name, part in {"unet": unet, "text_encoder": text_encoder}.items():
        part.save_pretrained(out / name)
    parts.tokenizer.save_pretrained(out / "tokenizer")
    parts.scheduler.save_pretrained(out / "scheduler")


def main(
    out: Annotated[Path, typer.Option(help="folder of the model")],
    steps: Annotated[int, typer.Option(help="of 32 pictures")] = 2400,
) -> None:
    random = start_repeatably()
    scenes = list(all_scenes())
    world = World(scenes, fold_world().codes(picture_tensor(scenes)))
    tokenizer = build_tokenizer(words())
    parts = Parts(build_unet(), build_text_encoder(tokenizer), tokenizer, build_scheduler())
    trained = nn.ModuleList([parts.unet, parts.text_encoder])
    averaged = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(KEPT_AVERAGE))

    def watched():  # noqa: ANN202  # a generator around fit
        at = count()
        losses = fit(trained.parameters(), lambda: loss_of(parts, world, random, next(at)), steps, PEAK_RATE)
        for step, loss in enumerate(losses, 1):
            averaged.update_parameters(trained)
            if step % SAVE_EVERY == 0 or step == steps:
                save(parts, averaged, out)
            yield loss

    report(watched(), 50)


if __name__ == "__main__":
    typer.run(main)
