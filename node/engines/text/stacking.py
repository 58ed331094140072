"""Caches of single sequences as one cache of a batch, for one step that gives each of them one token, and apart again.

Keys and values are filled up in front to the longest; a state that has no length (Mamba's) is put side by side as it is. Whether a
model computes the same from it is not known here: it is tried at load (model.py).
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

Cache = Any  # whatever cache the model makes: it has `layers`, each of which keeps tensors
_GROWING = ("keys", "values")  # (1, heads, tokens, dim); a window's are cut to it


def stacked(caches: Sequence[Cache], lengths: Sequence[int]) -> Cache:
    """lengths: how many tokens each has seen. Raises what the cache raises where it is of another make."""
    longest = max(range(len(caches)), key=lengths.__getitem__)
    whole = copy.copy(caches[longest])
    whole.layers = [_stacked_layer(layers, longest) for layers in zip(*(cache.layers for cache in caches), strict=True)]
    return whole


def split(whole: Cache, caches: Sequence[Cache], lengths: Sequence[int]) -> list[Cache]:
    """After the step. caches and lengths: those before it, that `whole` was stacked of."""
    behind = [max(lengths) - length for length in lengths]
    found = [copy.copy(cache) for cache in caches]
    for row, cache in enumerate(found):
        pairs = zip(whole.layers, cache.layers, strict=True)
        cache.layers = [_row_of(layer, before, row, behind[row]) for layer, before in pairs]
    return found


def has_length(cache: Cache) -> bool:
    """Whether anything in it grows, so that rows of different lengths must be told apart by a mask."""
    return any(isinstance(getattr(layer, name, None), torch.Tensor) for layer in cache.layers for name in _GROWING)


def _stacked_layer(layers: Sequence[Any], longest: int) -> Any:  # Any: a layer of a cache
    whole = copy.copy(layers[longest])
    for name, value in vars(whole).items():
        parts = [getattr(layer, name) for layer in layers]
        if name in _GROWING and isinstance(value, torch.Tensor):
            most = max(part.shape[-2] for part in parts)
            setattr(whole, name, torch.cat([pad(part, (0, 0, most - part.shape[-2], 0)) for part in parts]))
        elif isinstance(value, dict):
            setattr(whole, name, {key: _side_by_side([part[key] for part in parts]) for key in value})
    return whole


def _side_by_side(parts: Sequence[Any]) -> Any:  # Any: a tensor, or a fact that is the same in all rows
    return torch.cat(list(parts)) if isinstance(parts[0], torch.Tensor) else parts[0]


def _row_of(whole: Any, before: Any, row: int, behind: int) -> Any:  # Any: a layer of a cache
    """behind: how many tokens fewer than the longest it has seen."""
    own = copy.copy(whole)
    for name, value in vars(whole).items():
        if name in _GROWING and isinstance(value, torch.Tensor):
            tokens = min(getattr(before, name).shape[-2] + 1, value.shape[-2])
            setattr(own, name, value[row : row + 1, :, value.shape[-2] - tokens :])
        elif isinstance(value, dict):
            rows = {key: part[row : row + 1] if isinstance(part, torch.Tensor) else part for key, part in value.items()}
            setattr(own, name, rows)
        elif name == "cumulative_length":  # of a layer with a window, which keeps fewer tokens than it has seen
            own.cumulative_length = value - behind
    return own
