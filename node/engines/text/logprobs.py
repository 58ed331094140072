"""Log probabilities of the chosen tokens and of those that were likeliest in their place, for the rows that ask.

They are the model's own: of its logits before any penalty, temperature, filter or format, as OpenAI and vLLM report them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from protos.types import ChosenToken, TokenLogprob

MAX_TOP: Final = 20  # as OpenAI's API has it
_LOWEST: Final = -9999.0  # of a token that the model rules out. Source: logprobs in OpenAI's API reference

Spell = Callable[[int], bytes]
"""The bytes of a token's text."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one chosen token."""

    logprob: float
    top: Sequence[tuple[int, float]]  # (token, log probability), likeliest first


class Scorer:
    """Takes what it needs before the logits are changed, and tells once the tokens are chosen."""

    def __init__(self, logits: torch.Tensor, tops: Sequence[int | None]) -> None:
        """logits (rows, vocabulary). tops: how many likeliest each row wants; None: it does not ask at all."""
        self._rows = [row for row, top in enumerate(tops) if top is not None]
        self._tops = [top for top in tops if top is not None]
        self._shares = logits[self._rows].log_softmax(-1).clamp_min_(_LOWEST) if self._rows else None

    def scores(self, tokens: Sequence[int]) -> list[Scores | None]:
        """One for each row; None for those that did not ask."""
        found: list[Scores | None] = [None] * len(tokens)
        if self._shares is None:
            return found
        chosen = torch.tensor([tokens[row] for row in self._rows], device=self._shares.device)
        own = self._shares.gather(-1, chosen[:, None])[:, 0].tolist()
        values, ids = (part.tolist() for part in self._shares.topk(min(max(self._tops), self._shares.shape[-1])))
        for place, (row, top) in enumerate(zip(self._rows, self._tops, strict=True)):
            found[row] = Scores(own[place], list(zip(ids[place], values[place], strict=True))[:top])
        return found


class Shown:
    """The scored tokens of one answer, told with the text that they made: those of a stop string are never told."""

    def __init__(self, spell: Spell) -> None:
        self._spell = spell
        self._waiting: deque[tuple[int, ChosenToken]] = deque()  # and how much text was there before each
        self._read = 0  # characters that the tokens so far came to
        self._told = 0  # characters that were shown

    def push(self, token: int, scores: Scores, text: str) -> None:
        """One more token, and the text that was complete with it."""
        top = tuple(TokenLogprob(self._spell(other), logprob) for other, logprob in scores.top)
        self._waiting.append((self._read, ChosenToken(TokenLogprob(self._spell(token), scores.logprob), top)))
        self._read += len(text)

    def take(self, shown: str) -> tuple[ChosenToken, ...]:
        """The tokens that begin within the text shown so far."""
        self._told += len(shown)
        return tuple(self._next() for _ in range(sum(start < self._told for start, _ in self._waiting)))

    def rest(self) -> tuple[ChosenToken, ...]:
        """All that are left, at an end that cuts nothing off."""
        return tuple(self._next() for _ in range(len(self._waiting)))

    def _next(self) -> ChosenToken:
        return self._waiting.popleft()[1]
