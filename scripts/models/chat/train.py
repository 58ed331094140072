"""Trains the chat model from nothing: `python -m scripts.models.chat.train --out models/fabric-chat`."""

import math
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Annotated

import torch
import typer
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from scripts.models.chat.batches import NOT_TRAINED, batches
from scripts.models.chat.chats import Chat, any_chat, training_course
from scripts.models.chat.model import build_model
from scripts.models.chat.precision import fast_linears, use_float32_attention
from scripts.models.chat.save import save
from scripts.models.chat.tokenizer import build_tokenizer

SEED = 20
TOKENIZER_CHATS = 8_000
NUMBER_TEXTS = ("\n".join(str(number) for number in range(101)),) * 500  # so that each becomes one token
PEAK_RATE = 3e-3
WARMUP_STEPS = 150
REPORT_STEPS = 50


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of what the model must say; padding is on the right, so causality hides it."""
    targets = labels[:, 1:]
    with fast_linears():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[targets != NOT_TRAINED])
    return functional.cross_entropy(logits.float(), targets[targets != NOT_TRAINED])


def rate_at(step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then a cosine to zero."""
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / WARMUP_STEPS
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)))


def fit(model: LlamaForCausalLM, stream: Iterator[tuple[Tensor, Tensor]], steps: int) -> Iterator[float]:
    """Runs `steps` steps of AdamW and yields the loss of each."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        loss = loss_of(model, *next(stream))
        loss.backward()  # type: ignore[no-untyped-call]  # torch is partly untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def report(losses: Iterator[float], steps: int) -> None:
    """Prints the mean loss of every fifty steps, the time passed and the time left."""
    started, recent = time.monotonic(), deque[float](maxlen=REPORT_STEPS)
    for done, loss in enumerate(losses, start=1):
        recent.append(loss)
        if done % REPORT_STEPS == 0 or done == steps:
            elapsed_s = time.monotonic() - started
            left_s = elapsed_s / done * (steps - done)
            mean = sum(recent) / len(recent)
            print(f"step {done}/{steps} loss {mean:.6f} elapsed {elapsed_s:.0f} s left {left_s:.0f} s", flush=True)


def rendered(chat: Chat) -> str:
    """All text of a chat, for the tokenizer."""
    return "\n".join([chat.system or "", *(f"{turn.user}\n{turn.assistant}" for turn in chat.turns)])


def main(
    out: Annotated[Path, typer.Option(help="the directory to write")],
    steps: Annotated[int, typer.Option(min=1)] = 4000,
    seed: int = SEED,
    tokenizer_chats: Annotated[int, typer.Option(min=1)] = TOKENIZER_CHATS,
) -> None:
    """Trains tokenizer and model with one thread; the same seed on the same CPU type gives the same files."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    course, rng = training_course(), Random(seed)
    tokenizer = build_tokenizer(chain(NUMBER_TEXTS, (rendered(any_chat(course, rng)) for _ in range(tokenizer_chats))))
    model = build_model(tokenizer)
    use_float32_attention(model)
    print(f"{len(tokenizer)} tokens in the vocabulary, {model.num_parameters()} parameters", flush=True)
    report(fit(model, batches(course, tokenizer, rng), steps), steps)
    save(model, tokenizer, out)


if __name__ == "__main__":
    typer.run(main)
