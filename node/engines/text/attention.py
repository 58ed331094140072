"""Attention of a packed step over the slot KV cache, as transformers' attention interface calls it.

The pack is `[1, tokens]`: first the rows of one token each (decode), then whole chunks (prefill). A row's keys and
values are written to its slot before anything attends. Not about who gets how many tokens (batch.py).
Source: https://huggingface.co/docs/transformers/attention_interface
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from torch.nn.functional import scaled_dot_product_attention

from node.engines.text.kv import KvPool

INTERFACE: Final = "fabric_slots"
_CUT_COST: Final = 1024  # tokens of one row that are read in the time of one more call, 0.1 to 0.2 ms on a CPU
_LENGTH_STEP: Final = 32  # tokens; decode attends to the longest row rounded up to this, which also aligns the masks


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence in a step: `count` of them from position `start`, kept in `slot`."""

    slot: int
    start: int
    count: int


def packed(chunks: Sequence[Chunk]) -> list[int]:
    """The order in which a pack holds the chunks, as indices: single tokens first, by slot, then the longer ones."""
    return sorted(range(len(chunks)), key=lambda i: (chunks[i].count > 1, chunks[i].slot))


@dataclass(frozen=True, slots=True)
class Run:
    """Decoding rows whose slots lie side by side, so that they attend as one, as far as the longest of them."""

    rows: slice  # of the pack
    slots: slice  # of the cache; some of them may not decode
    length: int  # tokens; of one row alone exactly, so that it needs no mask

    @property
    def is_dense(self) -> bool:
        """Each of its slots decodes."""
        return self.slots.stop - self.slots.start == self.rows.stop - self.rows.start

    @property
    def is_single(self) -> bool:
        return self.slots.stop - self.slots.start == 1


def runs_of(singles: Sequence[Chunk]) -> list[tuple[int, int]]:
    """Where to cut decoding rows, in the order of their slots, into runs: (begin, end) each.

    All rows of a run read as much of the cache as its longest, so one long conversation would make all others slow. A cut
    costs one more call and saves what the shorter side need not read.
    """
    found: list[tuple[int, int]] = []
    left = [(0, len(singles))]
    while left:
        begin, end = left.pop()
        cut = _best_cut([chunk.start + 1 for chunk in singles[begin:end]])
        if cut:
            left += [(begin + cut, end), (begin, begin + cut)]
        else:
            found.append((begin, end))
    return found


def _best_cut(lengths: Sequence[int]) -> int:
    """0: none that pays."""
    longest = max(lengths)
    if longest * len(lengths) - sum(lengths) <= _CUT_COST:
        return 0  # not even the best cuts would
    before = list(accumulate(lengths, max))
    after = list(accumulate(reversed(lengths), max))[::-1]
    saved = [
        at * (longest - before[at - 1]) + (len(lengths) - at) * (longest - after[at]) for at in range(1, len(lengths))
    ]
    best = max(saved, default=0)
    return saved.index(best) + 1 if best > _CUT_COST else 0


class Layout:
    """Where the tokens of one step live: built once per step, read by every layer. `chunks` are in packed order."""

    def __init__(self, chunks: Sequence[Chunk], pool: KvPool, device: torch.device) -> None:
        self.pool = pool
        self.device = device
        singles = [chunk for chunk in chunks if chunk.count == 1]
        self.longer = [chunk for chunk in chunks if chunk.count > 1]
        self.slots = _tensor([chunk.slot for chunk in chunks for _ in range(chunk.count)], device)
        self.positions = _tensor([c.start + i for c in chunks for i in range(c.count)], device)
        self.runs = [self._run(singles, begin, end) for begin, end in runs_of(singles)] if singles else []
        self._masks: dict[tuple[object, ...], torch.Tensor] = {}
        self._places: dict[int, torch.Tensor] = {}

    def cache_rows(self, kv_heads: int) -> torch.Tensor:
        """Where each token's keys lie in a layer's cache as rows of one head: (tokens * kv heads), token by token."""
        if kv_heads not in self._places:
            heads = self.slots[:, None] * kv_heads + torch.arange(kv_heads, device=self.device)
            self._places[kv_heads] = (heads * self.pool.context_tokens + self.positions[:, None]).flatten()
        return self._places[kv_heads]

    def places(self, run: Run) -> torch.Tensor:
        """For each row of the run its place among the run's slots."""
        return self.slots[run.rows] - run.slots.start

    def run_mask(self, run: Run, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Additive, (slots, 1, 1, length). Slots that do not decode see position 0, so that they stay finite."""
        return self._mask(("run", run.rows.start, window), lambda: self._build_run_mask(run, window, dtype))

    def chunk_mask(self, index: int, group: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Additive, (group * count, start + count), of the chunk `longer[index]`."""
        chunk = self.longer[index]
        return self._mask((index, group, window), lambda: self._build_chunk_mask(chunk, group, window, dtype))

    def _run(self, singles: Sequence[Chunk], begin: int, end: int) -> Run:
        longest = max(chunk.start for chunk in singles[begin:end]) + 1
        step = _LENGTH_STEP if end - begin > 1 else 1
        length = min(self.pool.context_tokens, -(-longest // step) * step)
        return Run(slice(begin, end), slice(singles[begin].slot, singles[end - 1].slot + 1), length)

    def _mask(self, key: tuple[object, ...], build: Callable[[], torch.Tensor]) -> torch.Tensor:
        if key not in self._masks:
            self._masks[key] = build()
        return self._masks[key]

    def _build_run_mask(self, run: Run, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        last = torch.zeros(run.slots.stop - run.slots.start, dtype=torch.long, device=self.device)
        last[self.places(run)] = self.positions[run.rows]
        return _additive(last, run.length, window, dtype)[:, None, None, :]

    def _build_chunk_mask(self, chunk: Chunk, group: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        end = chunk.start + chunk.count
        last = torch.arange(chunk.start, end, device=self.device)
        return _additive(last, end, window, dtype).repeat(group, 1)


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the interface; our masks are in the layout
    *,
    fabric_layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer. query (1, heads, tokens, dim), key and value (1, kv heads, tokens, dim) ->
    (1, tokens, heads, value dim)."""
    layout = fabric_layout
    keys, values = layout.pool.write(module.layer_idx, layout.cache_rows(key.shape[1]), key[0], value[0])
    layer = _Layer(keys, values, layout, scaling, sliding_window)
    if len(layout.runs) == 1 and not layout.longer:
        return _decode(query[0], layer, layout.runs[0])[None], None
    heads, tokens = query.shape[1:3]
    output = query.new_empty(tokens, heads, value.shape[-1])
    at = 0
    for run in layout.runs:
        at = run.rows.stop
        output[run.rows] = _decode(query[0, :, run.rows], layer, run)
    for index, chunk in enumerate(layout.longer):
        output[at : at + chunk.count] = _prefill(query[0, :, at : at + chunk.count], layer, index)
        at += chunk.count
    return output[None], None


@dataclass(frozen=True, slots=True)
class _Layer:
    """The cache of one layer, (slots, kv heads, context, dim), and how the layer attends to it."""

    keys: torch.Tensor
    values: torch.Tensor
    layout: Layout
    scaling: float | None
    window: int | None  # tokens that a token sees, itself included; None: all before it


def _decode(query: torch.Tensor, layer: _Layer, run: Run) -> torch.Tensor:
    """query (heads, rows, dim) -> (rows, heads, value dim). Keys and values are views of the cache, never copies.

    The query heads that share a key head become its query rows: `enable_gqa` with one query token is 4 times slower
    in bfloat16 on a CPU (measured).
    """
    layout, kv_heads = layer.layout, layer.keys.shape[1]
    heads, rows, dim = query.shape
    group = heads // kv_heads
    folded = query.transpose(0, 1).reshape(rows, kv_heads, group, dim)
    if run.is_single:
        return _decode_one(folded, layer, run).reshape(rows, heads, -1)
    if not run.is_dense:
        spread = folded.new_zeros(run.slots.stop - run.slots.start, kv_heads, group, dim)
        folded = spread.index_copy_(0, layout.places(run), folded)
    out = scaled_dot_product_attention(
        folded,
        layer.keys[run.slots, :, : run.length],
        layer.values[run.slots, :, : run.length],
        attn_mask=layout.run_mask(run, layer.window, query.dtype).expand(-1, kv_heads, group, -1),
        scale=layer.scaling,
    )
    if not run.is_dense:
        out = out[layout.places(run)]
    return out.reshape(rows, heads, -1)


def _decode_one(folded: torch.Tensor, layer: _Layer, run: Run) -> torch.Tensor:
    """All that it reads it may see."""
    seen = slice(0 if layer.window is None else max(0, run.length - layer.window), run.length)
    return scaled_dot_product_attention(
        folded, layer.keys[run.slots, :, seen], layer.values[run.slots, :, seen], scale=layer.scaling
    )


def _prefill(query: torch.Tensor, layer: _Layer, index: int) -> torch.Tensor:
    """query (heads, count, dim) -> (count, heads, value dim): one sequence, with what its slot holds of its past."""
    chunk, kv_heads = layer.layout.longer[index], layer.keys.shape[1]
    heads, count, dim = query.shape
    group, end = heads // kv_heads, chunk.start + count
    out = scaled_dot_product_attention(
        query.reshape(1, kv_heads, group * count, dim),
        layer.keys[chunk.slot : chunk.slot + 1, :, :end],
        layer.values[chunk.slot : chunk.slot + 1, :, :end],
        attn_mask=layer.layout.chunk_mask(index, group, layer.window, query.dtype),
        scale=layer.scaling,
    )
    return out.reshape(heads, count, -1).transpose(0, 1)


def _additive(last: torch.Tensor, length: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """(rows, length): 0 where a row whose own position is `last` may look, -inf elsewhere."""
    seen = torch.arange(length, device=last.device)[None]
    hidden = seen > last[:, None]
    if window is not None:
        hidden |= seen <= last[:, None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=last.device).masked_fill_(hidden, float("-inf"))


def _tensor(values: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.long, device=device)
