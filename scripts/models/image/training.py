"""What both halves of the training share: the rate and the loop."""

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Final

import torch
from torch import Tensor
from torch.nn import Parameter

SEED: Final = 7
_WARMUP_STEPS: Final = 50


def start_repeatably() -> Random:
    """One thread, and every source of chance from one seed."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # a tenth of the time, for nothing: no kernel here reads it
    )
    return Random(SEED)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < _WARMUP_STEPS:
        return peak * (step + 1) / _WARMUP_STEPS
    return peak * 0.5 * (1 + math.cos(math.pi * (step - _WARMUP_STEPS) / max(1, steps - _WARMUP_STEPS)))


def fit(parameters: Iterable[Parameter], loss: Callable[[], Tensor], steps: int, peak: float) -> Iterator[float]:
    """Runs `steps` steps of AdamW and yields the loss of each."""
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, peak)
        now = loss()
        now.backward()  # type: ignore[no-untyped-call]  # torch is partly untyped
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield now.item()


def report(losses: Iterable[float], every: int) -> None:
    """Prints the mean loss now and then."""
    recent: list[float] = []
    for step, loss in enumerate(losses, 1):
        recent.append(loss)
        if step % every == 0:
            print(f"step {step:5}  loss {sum(recent) / len(recent):.5f}", flush=True)
            recent.clear()
