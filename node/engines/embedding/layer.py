"""A layer of the BERT family in fewer and larger calls: one product for queries, keys and values, sums in place.

What a step's time is made of: docs/embedding-in-process.md.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

from node.engines.embedding.attention import text_attention

_FAMILY: Final = ("BertLayer", "RobertaLayer", "XLMRobertaLayer")  # of transformers: all are put together alike


class FusedLayer(nn.Module):
    """Computes what `layer` does, for packed texts."""

    is_causal = False

    def __init__(self, layer: Any) -> None:  # one of _FAMILY
        super().__init__()
        attention, mixing = layer.attention.self, layer.attention.output
        self.heads = attention.num_attention_heads
        self.projections = _joined([attention.query, attention.key, attention.value])
        self.mixed, self.mixed_norm = mixing.dense, mixing.LayerNorm
        self.intermediate = layer.intermediate
        self.output, self.norm = layer.output.dense, layer.output.LayerNorm

    def forward(self, hidden: torch.Tensor, *_: object, fabric_lengths: Sequence[int], **__: object) -> torch.Tensor:
        """(1, tokens, dim), in and out. What else the encoder hands on is for masks and caches, which a pack has not."""
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.projections(hidden).chunk(3, -1))
        mixed, _ = text_attention(self, *parts, None, fabric_lengths=fabric_lengths)
        hidden = self.mixed_norm(self.mixed(mixed.flatten(2)).add_(hidden))
        return self.norm(self.output(self.intermediate(hidden)).add_(hidden))


def fuse(model: nn.Module) -> int:
    """Puts fused layers in the place of those of the BERT family. How many."""
    fused = 0
    for layers in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        for index, layer in enumerate(layers):
            if type(layer).__name__ in _FAMILY and not layer.is_decoder:
                layers[index] = FusedLayer(layer)
                fused += 1
    return fused


def _joined(linears: Sequence[nn.Linear]) -> nn.Linear:
    """One after another in one product."""
    weight = torch.cat([linear.weight for linear in linears])
    joined = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
    return joined
