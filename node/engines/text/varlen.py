"""Attention of a packed step by one variable-length kernel for all rows: torch's flash attention, on a GPU.

The kernel reads each sequence where it lies in the cache (`cu_seq_k`, `seqused_k`), so nothing is gathered or padded.
A pack has up to two calls: the rows of one token, for which the kernel folds the query heads that share a key head and
splits long caches, and the longer chunks. Not about who may take this way (path.py) nor about attention on a CPU
(attention.py).
Source: torch.nn.attention.varlen.varlen_attn of torch 2.13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Protocol

import torch

from node.engines.text.attention import Chunk
from node.engines.text.kv import TokenPool
from node.engines.text.upload import upload

INTERFACE: Final = "fabric_varlen"


class Attend(Protocol):
    """What of varlen_attn is used."""

    def __call__(  # noqa: PLR0917 - varlen_attn's
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None,
        window_size: tuple[int, int],
        enable_gqa: bool,
        seqused_k: torch.Tensor,
    ) -> torch.Tensor:
        """query (tokens, heads, dim), key and value (tokens of the cache, kv heads, dim) -> (tokens, heads, dim).

        Sequence i has the queries from cu_seq_q[i] to cu_seq_q[i + 1] and the first seqused_k[i] keys from cu_seq_k[i]
        on; its last query is at its last key. window_size: keys that a query sees before it and behind it, -1: all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """One call, as numbers: the rows of the pack from `begin` on, and what of the cache each sequence reads."""

    begin: int
    queries: tuple[int, ...]  # of each sequence
    keys_at: tuple[int, ...]  # where the first key of each lies among all tokens of the cache; they ascend
    used: tuple[int, ...]  # keys of each, those of this step included

    @property
    def end(self) -> int:
        return self.begin + sum(self.queries)


def readings(chunks: Sequence[Chunk], context_tokens: int) -> list[Reading]:
    """The calls for the chunks, in packed order: the single tokens by slot, then the longer ones by slot."""
    singles = sum(chunk.count == 1 for chunk in chunks)
    found = []
    begin = 0
    for part in (chunks[:singles], chunks[singles:]):
        if part:
            reading = Reading(
                begin,
                tuple(chunk.count for chunk in part),
                tuple(chunk.slot * context_tokens for chunk in part),
                tuple(chunk.start + chunk.count for chunk in part),
            )
            found.append(reading)
            begin = reading.end
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the kernel. The tensors are int32, contiguous, on the device."""

    rows: slice  # of the pack
    cu_q: torch.Tensor
    cu_k: torch.Tensor
    used: torch.Tensor
    max_q: int
    max_k: int

    def window(self, tokens: int | None) -> tuple[int, int]:
        """tokens: that a token sees, itself included. A single query at the last key has nothing behind it: told so, the
        kernel takes its way for decoding."""
        if tokens is not None:
            return tokens - 1, 0
        return (-1, -1) if self.max_q == 1 else (-1, 0)


@dataclass(frozen=True, slots=True)
class VarlenLayout:
    """Where the tokens of one step live: built once per step, read by every layer."""

    pool: TokenPool
    attend: Attend
    positions: torch.Tensor  # (tokens,) of each in its sequence
    places: torch.Tensor  # (tokens,) of each in the cache
    calls: Sequence[Call]


def layout_of(chunks: Sequence[Chunk], pool: TokenPool, attend: Attend, device: torch.device) -> VarlenLayout:
    """Of any chunks, in packed order."""
    context = pool.context_tokens
    positions = [chunk.start + i for chunk in chunks for i in range(chunk.count)]
    places = [chunk.slot * context + chunk.start + i for chunk in chunks for i in range(chunk.count)]
    where = upload([positions, places], torch.long, device)
    calls = [_call(reading, pool.tokens, device) for reading in readings(chunks, context)]
    return VarlenLayout(pool, attend, where[0], where[1], calls)


def _call(reading: Reading, pool_tokens: int, device: torch.device) -> Call:
    cu_q = [0, *accumulate(reading.queries)]
    cu_k = [*reading.keys_at, pool_tokens]
    used = [*reading.used, 0]  # as long as the others, so that one tensor carries all three
    numbers = upload([cu_q, cu_k, used], torch.int32, device)
    rows = slice(reading.begin, reading.end)
    return Call(rows, numbers[0], numbers[1], numbers[2, :-1], max(reading.queries), max(reading.used))


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the interface; a sequence sees its own keys alone
    *,
    fabric_layout: VarlenLayout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer. query (1, heads, tokens, dim), key and value (1, kv heads, tokens, dim) ->
    (1, tokens, heads, dim)."""
    layout = fabric_layout
    keys, values = layout.pool.write(module.layer_idx, layout.places, key[0], value[0])
    rows = query[0].transpose(0, 1)
    parts = [
        layout.attend(
            rows[call.rows],
            keys,
            values,
            call.cu_q,
            call.cu_k,
            call.max_q,
            call.max_k,
            scale=scaling,
            window_size=call.window(sliding_window),
            enable_gqa=query.shape[1] != key.shape[1],
            seqused_k=call.used,
        )
        for call in layout.calls
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None
