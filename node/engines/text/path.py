"""The way that a text model takes on its device, decided once, at load, and said in the log.

Not about the ways themselves (attention.py, varlen.py).
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn.attention import varlen

from node.engines.text.kv import LayerShape

_LARGEST_HEAD: Final = 256  # Source: flash attention 2, the kernel behind varlen_attn
_HEAD_MULTIPLE: Final = 8
_LEAST_CAPABILITY: Final = (8, 0)  # Ampere


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision goes by."""

    kind: str  # cpu, cuda
    dtype: torch.dtype
    layers: Sequence[LayerShape]
    capability: tuple[int, int] = (0, 0)  # of an NVIDIA device
    reads_slots: bool = False  # torch's varlen_attn takes seqused_k: 2.13 does, 2.11 does not


@dataclass(frozen=True, slots=True)
class DevicePath:
    """`why_not`: what keeps the model from variable-length flash attention; empty: nothing."""

    why_not: str = ""

    @property
    def is_varlen(self) -> bool:
        return not self.why_not

    def __str__(self) -> str:
        if self.is_varlen:
            return "attention: varlen flash"
        return f"attention: scaled_dot_product_attention by groups of rows ({self.why_not})"


def path_of(facts: Facts) -> DevicePath:
    """Pure."""
    return DevicePath(_obstacle(facts))


def _obstacle(facts: Facts) -> str:
    if facts.kind != "cuda":
        return f"the device is a {facts.kind}"
    if facts.capability < _LEAST_CAPABILITY:
        return f"the device has compute capability {'.'.join(map(str, facts.capability))}, flash attention needs 8.0"
    if facts.dtype not in {torch.bfloat16, torch.float16}:
        return f"the model is in {facts.dtype}, flash attention takes bfloat16 and float16"
    if not facts.reads_slots:
        return f"varlen_attn of torch {torch.__version__} cannot read a part of a slot (seqused_k)"
    for layer in facts.layers:
        if layer.key_dim != layer.value_dim or layer.key_dim % _HEAD_MULTIPLE or layer.key_dim > _LARGEST_HEAD:
            return f"a head has {layer.key_dim} numbers to a key and {layer.value_dim} to a value"
    return ""


def row_counts(most: int, context_tokens: int) -> list[int]:
    """Of the decoding steps that are recorded: 1, 2, 4 ... up to `most`, and that. Padding rows are each a token of one
    slot, so there are never more than it has."""
    last = min(most, context_tokens)
    return [*(1 << power for power in range((last - 1).bit_length())), last]


def facts_of(device: torch.device, dtype: torch.dtype, layers: Sequence[LayerShape]) -> Facts:
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    capability = torch.cuda.get_device_capability(device) if is_nvidia else (0, 0)
    reads_slots = "seqused_k" in inspect.signature(varlen.varlen_attn).parameters
    return Facts(device.type, dtype, layers, capability, reads_slots)
