"""The way of models that cannot take the packed attention: through the cache that the model makes, one for each row.

Requests join and leave at every step, with all that the sampler can. A prompt is computed by itself; rows that decode share one
forward where the model computes the same from stacked caches (stacking.py), and else run one after another.
Not about the models that can (attention.py, kv.py).
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from node.engines.text.attention import Chunk
from node.engines.text.stacking import has_length, split, stacked


class Slot:
    """One sequence: its tokens, and the model's cache of the first `done` of them."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.cache: Any = None  # whatever cache the model makes
        self.done = 0

    @property
    def decodes(self) -> bool:
        """Its cache lacks the last token alone. Not after a step that failed."""
        return self.cache is not None and self.done == len(self.ids) - 1

    def forget(self) -> None:
        self.cache, self.done = None, 0

    def taken(self) -> Any:
        """The cache, which is not the slot's any more until a step is through."""
        cache = self.cache
        self.forget()
        return cache

    def keep(self, cache: Any) -> None:
        self.cache, self.done = cache, len(self.ids)


class OwnCaches:
    """The slots of a model's own caches; what KvPool is to the packed attention."""

    can_share = False  # a state after many tokens is not that after fewer

    def __init__(self, module: PreTrainedModel, slots: int, context_tokens: int, *, are_stacked: bool) -> None:
        self.slots = slots
        self.context_tokens = context_tokens
        self._module = module
        self._are_stacked = are_stacked
        self._name = _cache_name(module)
        self._rows = [Slot() for _ in range(slots)]
        self._takes_positions = "position_ids" in inspect.signature(module.forward).parameters
        self.bytes = slots * self._bytes_of(context_tokens) * (2 if are_stacked else 1)  # as they are, and stacked

    def forward(self, ids: Sequence[int], chunks: Sequence[Chunk], rows: Sequence[int]) -> torch.Tensor:
        """Logits (len(rows), vocabulary), float32, of the pack's `rows`, each the last of a chunk. A prompt is computed as
        a whole, when its last chunk comes: not every cache takes a second chunk."""
        wanted = set(rows)
        ready: list[tuple[int, Slot]] = []
        at = 0
        for chunk in chunks:
            row = self._rows[chunk.slot]
            row.ids[chunk.start :] = ids[at : at + chunk.count]
            if chunk.start == 0:
                row.forget()
            at += chunk.count
            if at - 1 in wanted:
                ready.append((at - 1, row))
        found = self._logits(ready)
        none = torch.empty(0, self._module.get_output_embeddings().weight.shape[0], device=self._module.device)
        return torch.stack([found[at] for at in rows]) if found else none

    def _logits(self, ready: Sequence[tuple[int, Slot]]) -> dict[int, torch.Tensor]:
        decoding = [(at, row) for at, row in ready if row.decodes] if self._are_stacked else []
        if len(decoding) < 2:
            return {at: self._logits_of_one(row) for at, row in ready}
        together = self._logits_of_many([row for _, row in decoding])
        found = dict(zip((at for at, _ in decoding), together, strict=True))
        return found | {at: self._logits_of_one(row) for at, row in ready if at not in found}

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies a slot over another."""
        if tokens and source != target:
            with torch.inference_mode():
                self._rows[target] = copy.deepcopy(self._rows[source])

    def clear(self, slot: int) -> None:
        self._rows[slot] = Slot()

    def _logits_of_one(self, row: Slot) -> torch.Tensor:
        """Of the last token."""
        if not row.decodes:
            row.forget()
        begin, cache = row.done, row.taken()
        ids = torch.tensor([row.ids[begin:]], device=self._module.device)
        output = self._module(input_ids=ids, use_cache=True, logits_to_keep=1, **{self._name: cache})
        row.keep(output[self._name])
        return output.logits[0, -1].float()

    def _logits_of_many(self, rows: Sequence[Slot]) -> torch.Tensor:
        """Of the last token of each: all decode."""
        lengths = [row.done for row in rows]
        caches = [row.taken() for row in rows]
        where = self._where(lengths) if has_length(caches[0]) else {}
        ids = torch.tensor([[row.ids[-1]] for row in rows], device=self._module.device)
        output = self._module(
            input_ids=ids, use_cache=True, logits_to_keep=1, **{self._name: stacked(caches, lengths)}, **where
        )
        for row, cache in zip(rows, split(output[self._name], caches, lengths), strict=True):
            row.keep(cache)
        return output.logits[:, -1].float()

    def _where(self, lengths: Sequence[int]) -> dict[str, torch.Tensor]:
        """What a row sees of the stacked cache and the token's place in its own sequence, where the model asks for that."""
        own = torch.tensor(lengths, device=self._module.device)[:, None]
        most = max(lengths)
        mask = (torch.arange(most + 1, device=own.device)[None] >= most - own).long()
        return {"attention_mask": mask, **({"position_ids": own} if self._takes_positions else {})}

    def _bytes_of(self, tokens: int) -> int:
        """Of one cache of so many tokens, from those of two short ones."""
        with torch.inference_mode():
            two, three = (self._measured(length) for length in (2, 3))
        return two + (three - two) * max(0, tokens - 2)

    def _measured(self, tokens: int) -> int:
        row = Slot()
        row.ids = [0] * tokens
        self._logits_of_one(row)
        held = (part for layer in getattr(row.cache, "layers", ()) for part in vars(layer).values())
        return sum(tensor.untyped_storage().nbytes() for part in held for tensor in _tensors(part))


def _tensors(part: Any) -> list[torch.Tensor]:  # Any: what a layer of a cache keeps
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else [part]
    return [each for each in parts if isinstance(each, torch.Tensor)]


def _cache_name(module: PreTrainedModel) -> str:
    known = inspect.signature(module.forward).parameters
    return "cache_params" if "cache_params" in known else "past_key_values"
