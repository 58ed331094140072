"""Training with bfloat16 linear layers, and everything else in float32.

On a CPU with bfloat16 instructions a step takes two thirds of the time. Attention is plain matrix products in float32:
for short rows that is faster than torch's fused one, whose bfloat16 backward pass is slower still.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, LlamaForCausalLM

ATTENTION = "float32_causal"


def fast_linears() -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def use_float32_attention(model: LlamaForCausalLM) -> None:
    """Sets causal attention without a mask: padding has to be on the right."""
    AttentionInterface.register(ATTENTION, _attend)
    model.set_attn_implementation(ATTENTION)


def _attend(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, **_options: object
) -> tuple[Tensor, None]:
    """query: (rows, heads, tokens, dim); key and value have fewer heads. Returns (rows, tokens, heads, dim)."""
    with torch.autocast("cpu", enabled=False):
        seen = _attend_in_groups(query.float(), key.float().flatten(0, 1), value.float().flatten(0, 1))
    return seen.transpose(1, 2).contiguous(), None


def _attend_in_groups(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """key and value: (rows * shared heads, tokens, dim); all query heads of a shared head go in one product."""
    tokens, dim = query.shape[-2:]
    scores = (query * dim**-0.5).reshape(len(key), -1, dim) @ key.transpose(1, 2)
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    weights = scores.view(len(key), -1, tokens, tokens).masked_fill(later, float("-inf")).softmax(-1)
    return (weights.flatten(1, 2) @ value).view(query.shape)
