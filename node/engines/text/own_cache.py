"""The way of models that cannot take the packed attention: each row by itself, through the cache that the model makes.

Requests still join and leave at every step, with all that the sampler can; what they do not share is the reading of the
weights, so many take as long as one after another. No row is padded: a model with a state (Mamba) has nothing to mask.
Not about the models that can (attention.py, kv.py).
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from node.engines.text.attention import Chunk


class Slot:
    """One sequence: its tokens, and the model's cache of the first `done` of them."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.cache: Any = None  # whatever cache the model makes
        self.done = 0

    def forget(self) -> None:
        self.cache, self.done = None, 0


class OwnCaches:
    """The slots of a model's own caches; what KvPool is to the packed attention."""

    can_share = False  # a state after many tokens is not that after fewer

    def __init__(self, module: PreTrainedModel, slots: int, context_tokens: int) -> None:
        self.slots = slots
        self.context_tokens = context_tokens
        self._module = module
        self._name = _cache_name(module)
        self._rows = [Slot() for _ in range(slots)]
        self.bytes = slots * self._bytes_of(context_tokens)

    def forward(self, ids: Sequence[int], chunks: Sequence[Chunk], rows: Sequence[int]) -> torch.Tensor:
        """Logits (len(rows), vocabulary), float32, of the pack's `rows`, each the last of a chunk. A prompt is computed as
        a whole, when its last chunk comes: not every cache takes a second chunk."""
        found: dict[int, torch.Tensor] = {}
        at = 0
        for chunk in chunks:
            row = self._rows[chunk.slot]
            row.ids[chunk.start :] = ids[at : at + chunk.count]
            if chunk.start == 0:
                row.forget()
            at += chunk.count
            if at - 1 in rows:
                found[at - 1] = self._last_logits(row)
        none = torch.empty(0, self._module.get_output_embeddings().weight.shape[0], device=self._module.device)
        return torch.stack([found[at] for at in rows]) if found else none

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies a slot over another."""
        if tokens and source != target:
            with torch.inference_mode():
                self._rows[target] = copy.deepcopy(self._rows[source])

    def clear(self, slot: int) -> None:
        self._rows[slot] = Slot()

    def _last_logits(self, row: Slot) -> torch.Tensor:
        """Of the last token. The cache serves when it lacks only that one; after a step that failed, it does not."""
        if row.cache is None or row.done != len(row.ids) - 1:
            row.forget()
        cache, begin = row.cache, row.done
        row.forget()  # until the step is through
        ids = torch.tensor([row.ids[begin:]], device=self._module.device)
        output = self._module(input_ids=ids, use_cache=True, logits_to_keep=1, **{self._name: cache})
        row.cache, row.done = output[self._name], len(row.ids)
        return output.logits[0, -1].float()

    def _bytes_of(self, tokens: int) -> int:
        """Of one cache of so many tokens, from those of two short ones."""
        with torch.inference_mode():
            two, three = (self._measured(length) for length in (2, 3))
        return two + (three - two) * max(0, tokens - 2)

    def _measured(self, tokens: int) -> int:
        row = Slot()
        row.ids = [0] * tokens
        self._last_logits(row)
        held = (part for layer in getattr(row.cache, "layers", ()) for part in vars(layer).values())
        return sum(tensor.untyped_storage().nbytes() for part in held for tensor in _tensors(part))


def _tensors(part: Any) -> list[torch.Tensor]:  # Any: what a layer of a cache keeps
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else [part]
    return [each for each in parts if isinstance(each, torch.Tensor)]


def _cache_name(module: PreTrainedModel) -> str:
    known = inspect.signature(module.forward).parameters
    return "cache_params" if "cache_params" in known else "past_key_values"
