"""Trains the speech model from nothing: `python -m scripts.models.audio.train --out models/fabric-whisper`."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, TypeAlias

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional
from transformers import WhisperForConditionalGeneration

from scripts.models.audio.batches import Batch, Batches
from scripts.models.audio.clips import Clip, load_clips, make_clips, make_noises, save_clips
from scripts.models.audio.convert import convert
from scripts.models.audio.model import Helper, build_model, decode, encode
from scripts.models.audio.tokenizer import build_tokenizer

SEED = 7
PEAK_RATE = 2e-3
MUON_FACTOR = 4  # its steps are a fifth of AdamW's first ones at the same rate
WARM_UP_STEPS = 40
FALL = 0.35  # the last part of the steps, in which the rate falls to nothing
REPORT_EVERY = 25


def rate(step: int, steps: int) -> float:
    """Up in a line, level, down in a line."""
    up, down = (step + 1) / WARM_UP_STEPS, (steps - step) / (FALL * steps)
    return PEAK_RATE * min(1.0, up, down)


def losses(model: WhisperForConditionalGeneration, helper: Helper, batch: Batch) -> tuple[Tensor, Tensor]:
    """(of the decoder, of the helper), each the mean over what counts."""
    with torch.autocast("cpu", torch.bfloat16):  # twice as fast as float32; the weights stay float32
        encoded = encode(model, batch.mels, batch.first_position)
        logits = decode(model, encoded, batch.tokens)
        spotted = helper(encoded, batch.spoken)
    each = functional.cross_entropy(logits.float().transpose(1, 2), batch.labels, reduction="none")
    return (each * batch.weights).sum() / batch.weights.sum(), spotted


def optimizers(model: WhisperForConditionalGeneration, helper: Helper) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for all else. Source: Jordan et al. 2024."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if ".layers." in name and weight.ndim == 2]
    others = [weight for name, weight in named if not (".layers." in name and weight.ndim == 2)]
    return [
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([*others, *helper.parameters()], betas=(0.9, 0.98), weight_decay=0.01),
    ]


Parts: TypeAlias = Sequence[torch.nn.Module | torch.optim.Optimizer]


def keep(checkpoint: Path | None, step: int, parts: Parts) -> None:
    """Writes all that the next step depends on; a batch depends on nothing but its step."""
    if checkpoint:
        torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, checkpoint)


def resume(checkpoint: Path | None, parts: Parts) -> int:
    """The step to go on with: 0 where there is no checkpoint."""
    if not checkpoint or not checkpoint.exists():
        return 0
    kept = torch.load(checkpoint)
    for part, state in zip(parts, kept["parts"], strict=True):
        part.load_state_dict(state)
    return int(kept["step"])


def fit(
    model: WhisperForConditionalGeneration, helper: Helper, batches: Batches, steps: int, checkpoint: Path | None
) -> Iterator[str]:
    """One line now and then of how it goes."""
    both = optimizers(model, helper)
    first = resume(checkpoint, (model, helper, *both))
    parameters = [*model.parameters(), *helper.parameters()]
    recent: deque[tuple[float, float]] = deque(maxlen=REPORT_EVERY)
    began = time.process_time()
    for step in range(first, steps):
        said, spotted = losses(model, helper, batches.take(step))
        (said + (1.0 if step < (1 - FALL) * steps else 0.3) * spotted).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, factor in zip(both, (MUON_FACTOR, 1), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate(step, steps)
            optimizer.step()
            optimizer.zero_grad()
        recent.append((float(said.detach()), float(spotted.detach())))
        if step % REPORT_EVERY == REPORT_EVERY - 1:
            decoder, helping = np.mean(recent, axis=0)
            keep(checkpoint, step + 1, (model, helper, *both))
            yield f"step {step + 1}/{steps}: decoder {decoder:.3f}, helper {helping:.3f}, {time.process_time() - began:.0f} s"


def bank(path: Path | None, count: int) -> list[Clip]:
    """The clips of the file, or new ones, kept in it."""
    if path and path.exists():
        return load_clips(path)
    clips = make_clips(Random(SEED), count)
    if path:
        save_clips(clips, path)
    return clips


def main(
    out: Annotated[Path, typer.Option(help="the directory to write")],
    steps: Annotated[int, typer.Option(min=1)] = 5000,
    clips: Annotated[int, typer.Option(min=1, help="clips to speak")] = 10_000,
    clips_file: Annotated[Path | None, typer.Option(help="an .npz that keeps the clips for the next run")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="kept every 25 steps; a run that finds it goes on")] = None,
) -> None:
    """Trains with one thread; one seed gives the same files again on the same kind of CPU with the same versions."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a tenth of the time, and nothing reads it
    torch.manual_seed(SEED)
    tokenizer = build_tokenizer()
    model, helper = build_model(tokenizer), Helper()
    noises = make_noises(np.random.default_rng(SEED), 40)
    batches = Batches(bank(clips_file, clips), noises, tokenizer, SEED)
    print(f"{tokenizer.get_vocab_size()} tokens in the vocabulary, {model.num_parameters()} parameters", flush=True)
    for line in fit(model.train(), helper, batches, steps, checkpoint):
        print(line, flush=True)
    convert(model.eval(), tokenizer, out)


if __name__ == "__main__":
    typer.run(main)
