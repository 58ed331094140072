"""What a token loses for having been said before, for the rows of a batch at once.

Not about which rows ask for it (sampler.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

_FIRST: Final = 64  # tokens that a new tally has room for


class Tally:
    """Which tokens a request has seen, and how often its answer has each. Grows by one token in constant time."""

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        """prompt: whose tokens were seen, and count as never said."""
        known = np.unique(np.asarray(prompt, dtype=np.int64))
        self._size = len(known)
        self._ids = np.zeros(self._size + _FIRST, dtype=np.int64)
        self._ids[: self._size] = known
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._places = {token: place for place, token in enumerate(known.tolist())}

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: self._size]

    @property
    def counts(self) -> NDArray[np.float32]:
        """How often the answer has each of `ids`."""
        return self._counts[: self._size]

    def add(self, token: int) -> None:
        place = self._places.setdefault(token, self._size)
        if place == self._size:
            self._size += 1
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token
        self._counts[place] += 1


@dataclass(frozen=True, slots=True)
class Penalty:
    """What one row loses."""

    row: int
    tally: Tally
    repetition: float
    frequency: float
    presence: float


def penalise(logits: torch.Tensor, penalties: Sequence[Penalty]) -> None:
    """Changes logits (rows, vocabulary) in place, at the tokens of the tallies alone.

    Repetition first: a seen token's logit is divided, a negative one multiplied. Then frequency times its count and
    presence once are taken from what was said. Source: Keskar et al. 2019, section 4.1, with the sign as in
    transformers; https://platform.openai.com/docs/api-reference/chat (frequency and presence, over the answer alone).
    """
    if not penalties:
        return
    sizes = [len(each.tally.ids) for each in penalties]
    vocabulary = logits.shape[-1]
    at = np.concatenate([each.row * vocabulary + each.tally.ids for each in penalties])
    counts = np.concatenate([each.tally.counts for each in penalties])
    taken = counts * _repeated([each.frequency for each in penalties], sizes)
    taken += (counts > 0) * _repeated([each.presence for each in penalties], sizes)
    places, less, factor = (
        torch.from_numpy(values).to(logits.device)
        for values in (at, taken, _repeated([each.repetition for each in penalties], sizes))
    )
    flat = logits.view(-1)
    picked = flat[places]
    flat[places] = torch.where(picked > 0, picked / factor, picked * factor) - less


def _repeated(values: Sequence[float], sizes: Sequence[int]) -> NDArray[np.float32]:
    return np.repeat(np.asarray(values, dtype=np.float32), sizes)
