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
from scripts.models.audio.model import Helper, build_model, decode, encode, watched
from scripts.models.audio.tokenizer import build_tokenizer

SEED = 7
PEAK_RATE = 2e-3
MUON_FACTOR = 4  # its steps are a fifth of AdamW's first ones at the same rate
STEPS = 3650
RATES = (
    *((0, 0.0), (40, PEAK_RATE), (2340, PEAK_RATE), (2725, PEAK_RATE * 0.694), (2800, PEAK_RATE * 0.505), (3200, 0.0)),
    *((3220, PEAK_RATE * 0.45), (STEPS, 0.0)),  # once more, for the mean with what stood at SETTLED
)
SETTLED = 3200  # the end of the first descent: the mean of its weights and the last ones errs less than either
HELPED = ((2340, 1.0), (STEPS, 0.3))  # the weight of what names the word at each position, until a step
REPORT_EVERY = 25
GUIDED_HEADS = 2  # of the four of each layer of the decoder
GUIDANCE = 0.5


def rate(step: int) -> float:
    """Up in a line, level, slowly down, then down to nothing."""
    return float(np.interp(step + 1, *zip(*RATES, strict=True)))


def losses(model: WhisperForConditionalGeneration, helper: Helper, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(of the decoder, of the helper, of what the decoder looks at), each the mean over what counts."""
    with torch.autocast("cpu", torch.bfloat16), watched(model) as seen:  # twice as fast; the weights stay float32
        encoded = encode(model, batch.mels, batch.first_position)
        logits = decode(model, encoded, batch.tokens)
        spotted = helper(encoded, batch.spoken)
    each = functional.cross_entropy(logits.float().transpose(1, 2), batch.labels, reduction="none")
    return (each * batch.weights).sum() / batch.weights.sum(), spotted, looked_elsewhere(seen, batch)


def looked_elsewhere(seen: Sequence[Tensor], batch: Batch) -> Tensor:
    """How little of some heads' attention is where it should be: of the first layer at the word just said, of the last at
    the word that comes next. The first finds its word by its sound, the last goes on from there.

    Without it the words were right and their order was not: "red six yes" was heard as "yes red six", and after 4,000
    steps half of the words of a sentence counted as wrong.
    """
    first, *_, last = seen
    losses = [_elsewhere(first, batch, batch.nth - 1), _elsewhere(last, batch, batch.nth)]
    return torch.stack(losses).mean()


def _elsewhere(attention: Tensor, batch: Batch, wanted: Tensor) -> Tensor:
    """attention: (batch, heads, length, positions); wanted: (batch, length), a word's number, from 1 on."""
    is_there = (batch.turns[:, None, :] == wanted[:, :, None]) & (wanted > 0)[:, :, None]
    shares = attention[:, :GUIDED_HEADS, :, : is_there.shape[2]].float().mul(is_there[:, None]).sum(3)
    is_word = (wanted > 0)[:, None, :].expand_as(shares)
    return -(shares[is_word] + 1e-3).log().sum() / max(1, int(is_word.sum()))


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


Weights: TypeAlias = dict[str, Tensor]


def keep(checkpoint: Path | None, step: int, parts: Parts, settled: Weights) -> None:
    """Writes all that the next step depends on; a batch depends on nothing but its step."""
    if checkpoint:
        torch.save({"step": step, "parts": [part.state_dict() for part in parts], "settled": settled}, checkpoint)


def resume(checkpoint: Path | None, parts: Parts) -> tuple[int, Weights]:
    """(the step to go on with, the weights at SETTLED where it is past): (0, {}) where there is no checkpoint."""
    if not checkpoint or not checkpoint.exists():
        return 0, {}
    kept = torch.load(checkpoint)
    for part, state in zip(parts, kept["parts"], strict=True):
        part.load_state_dict(state)
    return int(kept["step"]), kept["settled"]


def average(model: torch.nn.Module, settled: Weights) -> None:
    """The mean of the weights now and those. Source: Wortsman et al. 2022, model soups."""
    model.load_state_dict({name: (weight + settled[name]) / 2 for name, weight in model.state_dict().items()})


def fit(
    model: WhisperForConditionalGeneration, helper: Helper, batches: Batches, checkpoint: Path | None
) -> Iterator[str]:
    """One line now and then of how it goes."""
    both = optimizers(model, helper)
    first, settled = resume(checkpoint, (model, helper, *both))
    parameters = [*model.parameters(), *helper.parameters()]
    recent: deque[tuple[float, ...]] = deque(maxlen=REPORT_EVERY)
    began = time.process_time()
    for step in range(first, STEPS):
        said, spotted, looked = losses(model, helper, batches.take(step))
        help_weight = next(weight for until, weight in HELPED if step < until)
        (said + help_weight * spotted + GUIDANCE * looked).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, factor in zip(both, (MUON_FACTOR, 1), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate(step)
            optimizer.step()
            optimizer.zero_grad()
        if step == SETTLED - 1:
            settled = {name: weight.clone() for name, weight in model.state_dict().items()}
        recent.append(tuple(float(loss.detach()) for loss in (said, spotted, looked)))
        if step % REPORT_EVERY == REPORT_EVERY - 1:
            decoder, helping, looking = np.mean(recent, axis=0)
            keep(checkpoint, step + 1, (model, helper, *both), settled)
            yield f"step {step + 1}/{STEPS}: decoder {decoder:.3f}, helper {helping:.3f}, looking {looking:.3f}, {time.process_time() - began:.0f} s"
    average(model, settled)


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
    clips: Annotated[int, typer.Option(min=1, help="clips to speak")] = 4500,
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
    for line in fit(model.train(), helper, batches, checkpoint):
        print(line, flush=True)
    convert(model.eval(), tokenizer, out)


if __name__ == "__main__":
    typer.run(main)
