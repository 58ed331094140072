"""The next token of each row, from its logits and its own settings; greedy and sampled rows mixed.

A row's choice depends on its logits, its settings and one uniform number that the caller drew from the row's own random
stream, so not on its batch mates. Not about random streams (seats.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from node.engines.text.formats import Allowed
from node.engines.text.logprobs import Scorer, Scores
from node.engines.text.penalties import Penalty, Tally, penalise
from node.engines.text.upload import upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a request wants its tokens chosen; the filters apply in this order, as in transformers."""

    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    temperature: float = 1.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    @property
    def is_penalised(self) -> bool:
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0

    @property
    def needs_sorting(self) -> bool:
        return not self.is_greedy and (self.top_k > 0 or self.top_p < 1)


@dataclass(frozen=True, slots=True)
class Draw:
    """One row to choose for."""

    sampling: Sampling
    uniform: float  # in [0, 1)
    tally: Tally | None = None  # of what was seen; there when the row is penalised
    allowed: Allowed | None = None  # the tokens of its format; None: all
    logprobs: int | None = None  # wanted, beside the chosen token's; None: not even that


@dataclass(frozen=True, slots=True)
class Choice:
    """The token that was chosen for a row, and its log probability where that was asked for."""

    token: int
    scores: Scores | None = None


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Choice]:
    """logits (rows, vocabulary), float32, changed in place -> one token per row. Only who asks for log probabilities
    pays for them."""
    scorer = Scorer(logits, [draw.logprobs for draw in draws])
    tokens = sample(logits, draws)
    return [Choice(token, scores) for token, scores in zip(tokens, scorer.scores(tokens), strict=True)]


def sample(logits: torch.Tensor, draws: Sequence[Draw]) -> list[int]:
    """As `choose`, without log probabilities."""
    tokens: list[int] = pick(logits, draws).tolist()
    return tokens


def pick(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """As `sample`, (rows,) where the logits are; the host does not wait for them."""
    penalise(logits, _penalties(draws))
    _rule_out(logits, draws)
    chosen = _likeliest(logits)
    drawn = [row for row, draw in enumerate(draws) if not draw.sampling.is_greedy]
    if drawn:
        rows = upload(drawn, torch.long, logits.device)
        chosen[rows] = _draw(logits[rows], [draws[row] for row in drawn])
    return chosen


def _likeliest(logits: torch.Tensor) -> torch.Tensor:
    """On a CPU by NumPy: torch's argmax takes ten times as long there, 2.2 ms for 32 rows of 32,000 (measured)."""
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(-1))
    return logits.argmax(-1)


def _penalties(draws: Sequence[Draw]) -> list[Penalty]:
    return [
        Penalty(row, draw.tally, sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        for row, draw in enumerate(draws)
        if draw.tally is not None and (sampling := draw.sampling).is_penalised
    ]


def _rule_out(logits: torch.Tensor, draws: Sequence[Draw]) -> None:
    """-inf for what a row's format does not allow next."""
    held = {row: draw.allowed for row, draw in enumerate(draws) if draw.allowed is not None}
    if held:
        rows = torch.tensor(list(held), device=logits.device)
        allowed = torch.from_numpy(np.stack(list(held.values()))).to(logits.device)
        logits[rows] = logits[rows].where(allowed, float("-inf"))


def _draw(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Changes logits in place.

    Inverse CDF over the vocabulary in its own order: two nearly equal tokens that swap places in a sorted order, from
    rounding that depends on the batch, would swap their share of the uniform number too.
    """
    scaled = logits.sub_(logits.amax(-1, keepdim=True)).div_(_column(logits, [d.sampling.temperature for d in draws]))
    sorted_rows = [row for row, draw in enumerate(draws) if draw.sampling.needs_sorting]
    if sorted_rows:
        rows = upload(sorted_rows, torch.long, logits.device)
        scaled[rows] = _filter(scaled[rows], [draws[row].sampling for row in sorted_rows])
    weights = scaled.exp_()  # the largest is 1
    if any(d.sampling.min_p for d in draws):
        weights.masked_fill_(weights < _column(logits, [d.sampling.min_p for d in draws]), 0.0)
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    uniform = upload([d.uniform for d in draws], torch.float64, logits.device)
    total = cumulative[:, -1:]
    # Below the total, whatever the product is rounded to: behind the last token that is possible there is none.
    targets = (uniform[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, targets, right=True)[:, 0]


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
    return upload(values, like.dtype, like.device)[:, None]
