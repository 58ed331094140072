"""How far two ways to compute the same logits may differ: by what the model's type costs the model itself.

Not about what is computed (selftest.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

_FLOAT32: Final = 1e-3
_HALF: Final = 5e-2  # what most models lose; beyond it the model is asked
_TIMES: Final = 2.0  # of the model's own error: two ways lose differently, and the largest of many differences is rough
_MOST: Final = 0.3  # of the logits' size; where a type costs that much, nothing can be told apart from it


@dataclass(frozen=True, slots=True)
class Verdict:
    """error and bound: of the size of the logits."""

    error: float
    bound: float

    @property
    def is_rounding(self) -> bool:
        return self.error <= self.bound  # not where it is no number


def usual(dtype: torch.dtype) -> float:
    """The difference between two ways that is taken for rounding without asking the model."""
    return _FLOAT32 if dtype == torch.float32 else _HALF


def verdict(
    found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, exact: Callable[[], torch.Tensor]
) -> Verdict:
    """exact: the expected logits as float32 computes them, asked for only where `found` differs by more than is usual in `dtype`:
    it is then held to them as closely as the model's own way comes."""
    plain = Verdict(logits_error(found, expected), usual(dtype))
    if plain.is_rounding or dtype == torch.float32 or not found.isfinite().all():
        return plain
    truth = exact()
    own = logits_error(expected, truth)
    return Verdict(logits_error(found, truth), min(_MOST, max(usual(dtype), _TIMES * own)))


def logits_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, of their size."""
    return (found - expected).abs().max().item() / max(1.0, expected.abs().max().item())


@contextmanager
def in_float32(module: nn.Module) -> Iterator[None]:
    """Its weights in float32 meanwhile: twice the memory, and afterwards each is again what it was, to the bit."""
    narrow = {each: each.dtype for each in [*module.parameters(), *module.buffers()] if each.is_floating_point()}
    try:
        for each in narrow:
            each.data = each.data.float()
        yield
    finally:
        for each, dtype in narrow.items():
            each.data = each.data.to(dtype)
