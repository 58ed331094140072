"""The slot KV cache: one slot of `context_tokens` for each seat, in one tensor per layer.

Not about which task has which slot (seats.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of a token."""

    kv_heads: int
    key_dim: int
    value_dim: int

    @property
    def width(self) -> int:
        return self.kv_heads * (self.key_dim + self.value_dim)


def pool_bytes(layers: Sequence[LayerShape], slots: int, context_tokens: int, dtype: torch.dtype) -> int:
    return sum(layer.width for layer in layers) * slots * context_tokens * dtype.itemsize


class KvPool:
    """Keys and values, each layer's of shape (slots, kv heads, context_tokens, dim).

    Slots 0 to n - 1 are kept in use, so that attention over all decoding rows is a view. Filled with zeros: masked
    positions are multiplied by 0, which only a finite value survives.
    """

    can_share = True  # a slot's first tokens can be copied to another

    def __init__(
        self,
        layers: Sequence[LayerShape],
        slots: int,
        context_tokens: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.slots = slots
        self.context_tokens = context_tokens
        self.bytes = pool_bytes(layers, slots, context_tokens, dtype)
        self._keys, self._values = _zeros(layers, lambda heads, dim: (slots, heads, context_tokens, dim), dtype, device)

    def write(
        self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the tokens' (kv heads, tokens, dim) into `rows` of the layer's heads and positions (Layout.cache_rows).
        Returns the layer's whole tensors."""
        for cache, new in ((self._keys[layer], key), (self._values[layer], value)):
            cache.view(-1, new.shape[-1]).index_copy_(0, rows, new.transpose(0, 1).reshape(-1, new.shape[-1]))
        return self._keys[layer], self._values[layer]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` positions of a slot over another."""
        if not tokens or source == target:
            return
        for tensor in (*self._keys, *self._values):
            tensor[target, :, :tokens] = tensor[source, :, :tokens]

    def clear(self, slot: int) -> None:
        """After values that are not finite: the slot's next task must not meet them."""
        for tensor in (*self._keys, *self._values):
            tensor[slot].zero_()


class TokenPool:
    """As KvPool, each layer's of shape (slots * context_tokens, kv heads, dim): how flash attention reads it.

    Behind the slots of the seats lies one more, the scratch slot: what is written there nobody reads.
    """

    can_share = True

    def __init__(
        self,
        layers: Sequence[LayerShape],
        slots: int,
        context_tokens: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.slots = slots
        self.context_tokens = context_tokens
        self.bytes = pool_bytes(layers, slots + 1, context_tokens, dtype)
        self.tokens = (slots + 1) * context_tokens
        self._keys, self._values = _zeros(layers, lambda heads, dim: (self.tokens, heads, dim), dtype, device)

    @property
    def scratch(self) -> int:
        return self.slots

    def write(
        self, layer: int, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts the tokens' (kv heads, tokens, dim) at `places`: slot * context_tokens + position of each. Returns the
        layer's whole tensors."""
        for cache, new in ((self._keys[layer], key), (self._values[layer], value)):
            cache.index_copy_(0, places, new.transpose(0, 1))
        return self._keys[layer], self._values[layer]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first `tokens` positions of a slot over another."""
        if not tokens or source == target:
            return
        begin, to = source * self.context_tokens, target * self.context_tokens
        for tensor in (*self._keys, *self._values):
            tensor[to : to + tokens] = tensor[begin : begin + tokens]

    def clear(self, slot: int) -> None:
        """After values that are not finite: the slot's next task must not meet them."""
        for tensor in (*self._keys, *self._values):
            tensor[slot * self.context_tokens :][: self.context_tokens].zero_()


def _zeros(
    layers: Sequence[LayerShape],
    shape: Callable[[int, int], tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device | str,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Of each layer its keys and its values. shape: by its heads and their numbers."""
    keys = [torch.zeros(shape(layer.kv_heads, layer.key_dim), dtype=dtype, device=device) for layer in layers]
    values = [torch.zeros(shape(layer.kv_heads, layer.value_dim), dtype=dtype, device=device) for layer in layers]
    return keys, values
