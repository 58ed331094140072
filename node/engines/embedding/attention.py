"""Attention of a packed encoder step: each text sees itself and nothing else.

A loop over the texts beats one dense block mask (measured), and a packed BERT without either is silently wrong under
SDPA: position ids alone do not keep texts apart.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch.nn.functional import scaled_dot_product_attention

INTERFACE: Final = "fabric_texts"
_EXTRAS: Final = ("softcap", "s_aux", "position_bias", "sliding_window")  # what this attention does not compute


class UnsupportedAttention(ValueError):
    """The model asks for an attention that is not plain."""


def text_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the interface; a pack has no padding to mask
    *,
    fabric_lengths: Sequence[int],
    scaling: float | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    """(1, heads, tokens, dim) each -> (1, tokens, heads, dim); `fabric_lengths` are the texts' tokens, in order."""
    if extras := [option for option in _EXTRAS if options.get(option) is not None]:
        raise UnsupportedAttention(f"its attention uses {', '.join(extras)}")
    is_causal = bool(getattr(module, "is_causal", False))
    is_grouped = query.shape[1] != key.shape[1]
    parts = zip(*(tensor.split(list(fabric_lengths), dim=2) for tensor in (query, key, value)), strict=True)
    outputs = [
        scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scaling, enable_gqa=is_grouped)
        for q, k, v in parts
    ]
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1), None
