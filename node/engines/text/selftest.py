"""Logits of two short sequences, by a full eager forward, by mixed chunks through the slot cache, and by the own cache.

Not about the verdict (model.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch

from node.engines.text.attention import Chunk, packed
from node.engines.text.upload import upload

if TYPE_CHECKING:
    from node.engines.text.model import TextModel

_LENGTHS: Final = (9, 6)
# For each step the tokens that each sequence gets: chunk alone, chunk beside a single, single beside chunk, singles.
_STEPS: Final = ((4, 0), (1, 3), (3, 1), (1, 1), (0, 1))
_BEHIND: Final = 3


def sequences(vocabulary: int) -> list[list[int]]:
    """Fixed tokens spread over the vocabulary."""
    return [[(7919 * (i + 1) * (n + 3)) % vocabulary for i in range(length)] for n, length in enumerate(_LENGTHS)]


def eager_logits(model: "TextModel", cases: Sequence[Sequence[int]]) -> torch.Tensor:
    """(tokens of all cases, vocabulary)."""
    ids = (torch.tensor([case], device=model.device) for case in cases)
    return torch.cat([model.module(input_ids=one, use_cache=False).logits[0].float() for one in ids])


def own_cache_logits(model: "TextModel", cases: Sequence[Sequence[int]]) -> torch.Tensor:
    """The same logits through the model's own cache, a token of each case a step; each begins a few steps after the one before,
    so that those who share a step are of different lengths."""
    pool = model.new_pool(len(cases), max(map(len, cases)))
    logits: list[list[torch.Tensor]] = [[] for _ in cases]
    for step in range(max(slot * _BEHIND + len(case) for slot, case in enumerate(cases))):
        places = [(slot, step - slot * _BEHIND) for slot in range(len(cases))]
        chunks = [Chunk(slot, at, 1) for slot, at in places if 0 <= at < len(cases[slot])]
        found = pool.forward([cases[c.slot][c.start] for c in chunks], chunks, range(len(chunks)))
        for chunk, row in zip(chunks, found, strict=True):
            logits[chunk.slot].append(row)
    return torch.stack([row for rows in logits for row in rows])


def cached_logits(model: "TextModel", cases: Sequence[Sequence[int]]) -> torch.Tensor:
    """The same logits by steps that mix chunks of the cases."""
    pool = model.new_pool(len(cases), max(map(len, cases)))
    done = [0] * len(cases)
    logits: list[list[torch.Tensor]] = [[] for _ in cases]
    for counts in _STEPS:
        chunks = [Chunk(slot, done[slot], count) for slot, count in enumerate(counts) if count]
        chunks = [chunks[i] for i in packed(chunks)]
        ids = [token for c in chunks for token in cases[c.slot][c.start : c.start + c.count]]
        rows = model.run(upload(ids, torch.long, model.device), chunks, pool, range(len(ids))).split(
            [c.count for c in chunks]
        )
        for chunk, part in zip(chunks, rows, strict=True):
            logits[chunk.slot].append(part)
            done[chunk.slot] += chunk.count
    return torch.cat([torch.cat(parts) for parts in logits])
