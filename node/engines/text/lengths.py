"""How long a model's answers get, from those it gave last: what a forecast goes by, where the limit says little.

Not about what may be asked for (prepare.py): a limit is kept whatever is expected here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_KEPT: Final = 64  # answers
_FIRST: Final = 100  # tokens of the first answer of all: a paragraph. Limits are mostly far above what is said


@dataclass(frozen=True, slots=True)
class Length:
    """One answer. `was_cut`: it ended at its limit, nobody knows where else it would have."""

    tokens: int
    was_cut: bool


def expected_tokens(past: Sequence[Length], limit: int) -> float:
    """Of an answer with that limit. Who ran into one limit is taken to run into any."""
    if not past:
        return float(min(_FIRST, limit))
    return sum(limit if length.was_cut else min(length.tokens, limit) for length in past) / len(past)


class Lengths:
    """Those of one model. `observe` is called by the loop thread alone; `expected` by any (it reads one frozen value)."""

    def __init__(self) -> None:
        self._past: tuple[Length, ...] = ()

    def observe(self, tokens: int, *, was_cut: bool) -> None:
        self._past = (*self._past, Length(tokens, was_cut))[-_KEPT:]

    def expected(self, limit: int) -> float:
        return expected_tokens(self._past, limit)
