"""What a model's attention layers keep and ask for, seen in one short forward; models we cannot serve are refused.

Not about whether the answers are right (selftest.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from transformers import AttentionInterface, PreTrainedModel

from node.engines.text.kv import LayerShape
from protos.errors import LoadFailed

_INTERFACE: Final = "fabric_probe"
_LAYER_TYPES: Final = frozenset({"full_attention", "sliding_attention"})
_EXTRAS: Final = ("softcap", "s_aux", "position_bias")  # of the attention scores; our attention computes none of them


@dataclass(frozen=True, slots=True)
class Seen:
    """One call of the attention interface."""

    layer: int | None
    shape: LayerShape
    is_causal: bool
    window: int | None
    extras: tuple[str, ...]


def examine(name: str, module: PreTrainedModel) -> list[LayerShape]:
    """The shape of each layer's keys and values. Raises LoadFailed when the model cannot take our attention."""
    if not module._supports_attention_backend:
        raise LoadFailed(_refusal(name, module, "its attention cannot be replaced"))
    seen = _watch(module)
    problem = _problem(seen, getattr(module.config.get_text_config(), "layer_types", None))
    if problem:
        raise LoadFailed(_refusal(name, module, problem))
    return [call.shape for call in sorted(seen, key=lambda call: call.layer or 0)]


def _watch(module: PreTrainedModel) -> list[Seen]:
    AttentionInterface.register(_INTERFACE, _probe_attention)
    module.set_attn_implementation(_INTERFACE)
    seen: list[Seen] = []
    ids = torch.zeros(1, 2, dtype=torch.long, device=module.device)
    with torch.inference_mode():
        module(
            input_ids=ids, position_ids=torch.arange(2, device=module.device)[None], use_cache=False, fabric_seen=seen
        )
    return seen


def _probe_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the interface
    *,
    fabric_seen: list[Seen],
    sliding_window: int | None = None,
    **options: object,
) -> tuple[torch.Tensor, None]:
    shape = LayerShape(key.shape[1], key.shape[3], value.shape[3])
    extras = tuple(option for option in _EXTRAS if options.get(option) is not None)
    is_causal = getattr(module, "is_causal", True)
    fabric_seen.append(Seen(getattr(module, "layer_idx", None), shape, is_causal, sliding_window, extras))
    return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None


def _problem(seen: Sequence[Seen], layer_types: Sequence[str] | None) -> str | None:
    """Why the model cannot be served; None when it can."""
    if Counter(call.layer for call in seen) != Counter(range(len(seen))) or not seen:
        return "its attention layers are not called once each, in a numbered order"
    if not all(call.is_causal for call in seen):
        return "its attention is not causal"
    extras = sorted({extra for call in seen for extra in call.extras})
    if extras:
        return f"its attention uses {', '.join(extras)}"
    if layer_types is None:
        return None
    if unknown := sorted(set(layer_types) - _LAYER_TYPES):
        return f"it has layers of type {', '.join(unknown)}"
    if sum(kind == "sliding_attention" for kind in layer_types) != sum(call.window is not None for call in seen):
        return "its sliding layers do not state their window"
    return None


def _refusal(name: str, module: PreTrainedModel, problem: str) -> str:
    return f"{name} ({type(module).__name__}) cannot run on the slot cache: {problem}"
