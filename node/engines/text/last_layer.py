"""A model's last layer for the rows alone whose logits are asked for: of a prompt that is the last one, the others leave there
only their keys and values.

Its modules that compute each row by itself are wrapped, whatever the family; a self-test proves it (model.py). Not about which
rows are asked for (engine.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from protos.errors import LoadFailed

# Of Llama and all who are made like it, of OPT, GPT-2 and GPT-NeoX: feed-forward parts, and the attention's linears that give no
# key and no value. One that a family names otherwise computes all rows.
_NAMES: Final = frozenset({"mlp", "fc1", "fc2", "q_proj", "o_proj", "out_proj", "c_proj", "dense"})


class LastLayer:
    """Of one model. One thread at a time."""

    def __init__(self, module: nn.Module, layers: int) -> None:
        self.rows: torch.Tensor | None = None  # of the pack; None: all
        self._places = _places(module, layers)
        for parent, name in self._places:
            setattr(parent, name, RowByRow(getattr(parent, name), self))

    @contextmanager
    def only(self, rows: torch.Tensor | None) -> Iterator[None]:
        self.rows = rows
        try:
            yield
        finally:
            self.rows = None

    def restore(self) -> None:
        """The modules as they were: every row is computed."""
        for parent, name in self._places:
            setattr(parent, name, getattr(parent, name).inner)
        self._places = []


class RowByRow(nn.Module):
    """What `inner` computes, of the rows that are asked for; zeros for the others, which nobody reads."""

    def __init__(self, inner: nn.Module, layer: LastLayer) -> None:
        super().__init__()
        self.inner = inner
        self._layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., rows, in)."""
        rows = self._layer.rows
        if rows is None:
            return self.inner(x)
        found = self.inner(x.index_select(-2, rows))
        if not isinstance(found, torch.Tensor):
            raise LoadFailed(f"{type(self.inner).__name__} gives a {type(found).__name__}, not a tensor of its rows")
        return found.new_zeros(*x.shape[:-1], found.shape[-1]).index_copy_(-2, rows, found)


def _places(module: nn.Module, layers: int) -> list[tuple[nn.Module, str]]:
    """Of the list of so many layers the last one's, each with its parent; none within another."""
    lists = (each for each in module.modules() if isinstance(each, nn.ModuleList) and len(each) == layers)
    found: list[tuple[nn.Module, str]] = []
    left = [each[-1] for each in lists][:1]
    while left:
        parent = left.pop()
        for name, child in parent.named_children():
            if name in _NAMES:
                found.append((parent, name))
            else:
                left.append(child)
    return found
