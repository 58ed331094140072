"""The next token of each row, from its logits and its own settings; greedy and sampled rows mixed.

A row's choice depends on its logits, its settings and one uniform number that the caller drew from the row's own random
stream, so not on its batch mates. Not about random streams (seats.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a request wants its tokens chosen; the filters apply in this order, as in transformers."""

    repetition_penalty: float = 1.0
    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    @property
    def needs_sorting(self) -> bool:
        return not self.is_greedy and (self.top_k > 0 or self.top_p < 1)


@dataclass(frozen=True, slots=True)
class Draw:
    """One row to choose for."""

    sampling: Sampling
    uniform: float  # in [0, 1)
    seen: Sequence[int] = ()  # prompt and answer so far; only read when there is a repetition penalty


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """logits (rows, vocabulary), float32, changed in place -> one token id per row."""
    for row, draw in enumerate(draws):
        if draw.sampling.repetition_penalty != 1:
            _penalise(logits[row], draw)
    chosen = logits.argmax(-1)
    drawn = [row for row, draw in enumerate(draws) if not draw.sampling.is_greedy]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        chosen[rows] = _draw(logits[rows], [draws[row] for row in drawn])
    return chosen.tolist()


def _penalise(logits: torch.Tensor, draw: Draw) -> None:
    """Source: Keskar et al. 2019, section 4.1; negative logits are multiplied, as in transformers."""
    ids = torch.tensor(sorted(set(draw.seen)), dtype=torch.long, device=logits.device)
    penalty = draw.sampling.repetition_penalty
    picked = logits[ids]
    logits[ids] = torch.where(picked > 0, picked / penalty, picked * penalty)


def _draw(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Inverse CDF over the vocabulary in its own order: two nearly equal tokens that swap places in a sorted order, from
    rounding that depends on the batch, would swap their share of the uniform number too."""
    scaled = (logits - logits.amax(-1, keepdim=True)) / _column(logits, [d.sampling.temperature for d in draws])
    sorted_rows = [row for row, draw in enumerate(draws) if draw.sampling.needs_sorting]
    if sorted_rows:
        rows = torch.tensor(sorted_rows, device=logits.device)
        scaled[rows] = _filter(scaled[rows], [draws[row].sampling for row in sorted_rows])
    weights = scaled.exp()  # the largest is 1
    weights = weights.where(weights >= _column(logits, [d.sampling.min_p for d in draws]), 0.0)
    cumulative = weights.double().cumsum(-1)
    uniform = torch.tensor([d.uniform for d in draws], dtype=torch.float64, device=logits.device)
    targets = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)


def _filter(scaled: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """-inf for what top_k and then top_p leave out."""
    vocabulary = scaled.shape[-1]
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    kept_k = _column(scaled, [s.top_k or vocabulary for s in samplings])
    ordered = ordered.masked_fill(torch.arange(vocabulary, device=scaled.device)[None] >= kept_k, float("-inf"))
    shares = ordered.softmax(-1)
    before = shares.cumsum(-1) - shares  # of all that is more likely
    top_p = _column(scaled, [s.top_p for s in samplings])
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), float("-inf"))
    return torch.empty_like(scaled).scatter_(-1, order, ordered)


def _column(like: torch.Tensor, values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
