"""Logits of two short sequences, by a full eager forward, by mixed chunks through the slot cache (all rows, or the last of each
chunk), and by the own cache.

Not about the verdict (model.py).
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
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
    logits: list[list[torch.Tensor]] = [[] for _ in cases]
    for chunks in _mixed():
        ids = _ids(model, cases, chunks)
        rows = model.run(ids, chunks, pool, range(len(ids)))
        for chunk, part in zip(chunks, rows.split([c.count for c in chunks]), strict=True):
            logits[chunk.slot].append(part)
    return torch.cat([torch.cat(parts) for parts in logits])


def end_logits(model: "TextModel", cases: Sequence[Sequence[int]]) -> torch.Tensor:
    """Of the last token of each chunk alone, by the same steps; see `ends_of`. Each is computed once more before, for no row, as
    the first chunks of a long prompt are."""
    pool = model.new_pool(len(cases), max(map(len, cases)))
    parts = []
    for chunks in _mixed():
        lasts = [end - 1 for end in accumulate(chunk.count for chunk in chunks)]
        ids = _ids(model, cases, chunks)
        model.run(ids, chunks, pool, [])
        parts.append(model.run(ids, chunks, pool, lasts))
    return torch.cat(parts)


def ends_of(cases: Sequence[Sequence[int]]) -> list[int]:
    """Where the rows of `end_logits` are among those of the whole sequences, one behind the other."""
    begins = [0, *accumulate(map(len, cases))]
    return [begins[chunk.slot] + chunk.start + chunk.count - 1 for chunks in _mixed() for chunk in chunks]


def _mixed() -> Iterator[list[Chunk]]:
    """The chunks of each step, in packed order."""
    done = [0] * len(_LENGTHS)
    for counts in _STEPS:
        chunks = [Chunk(slot, done[slot], count) for slot, count in enumerate(counts) if count]
        yield [chunks[i] for i in packed(chunks)]
        done = [begun + count for begun, count in zip(done, counts, strict=True)]


def _ids(model: "TextModel", cases: Sequence[Sequence[int]], chunks: Sequence[Chunk]) -> torch.Tensor:
    ids = [token for c in chunks for token in cases[c.slot][c.start : c.start + c.count]]
    return upload(ids, torch.long, model.device)
