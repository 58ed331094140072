"""Linear layers of a model on a CPU, their weights in the layout that is measured to be the fastest (layouts.py).

Not about which model: any engine may hand its modules to `pack`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import torch
from torch import nn
from transformers.activations import GELUActivation
from transformers.pytorch_utils import Conv1D

from node.engines.layouts import Choice, Timing, bias, can_pack, choose, matrix, measured, multiply, reorder, turned

LEAST_WEIGHTS: Final = 1 << 16  # of a linear: in smaller ones the call is what takes the time


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of the linears of one shape."""

    shape: tuple[int, int]  # (out, in)
    modules: int
    choice: Choice


class PackedLinear(nn.Module):
    """Computes what `plain` does. `plain` is kept, with its weight, where it is the faster one for fewer than `first_rows`, and
    may be that for as many as `plain_from` again.

    A row's result does not depend on how many rows ride along, beyond rounding: 1e-6 of the largest result.
    """

    def __init__(self, plain: nn.Module, first_rows: int, plain_from: int | None = None) -> None:
        super().__init__()
        weight = matrix(plain)
        self.out_features, self.in_features = weight.shape
        self.bias = bias(plain)
        self.weight = torch.empty_like(weight, device="meta")  # for those that ask for its dtype or shape
        self.packed: torch.Tensor | None = reorder(weight)  # opaque: neither a parameter nor a buffer, it cannot move
        self.plain = plain if first_rows > 1 else None
        self._first, self._end = first_rows * self.in_features, (plain_from or math.inf) * self.in_features
        self._after = "none"  # what oneDNN computes on the result before it is written

    def take_over_gelu(self) -> bool:
        """Computes GELU (the exact one) on each result from now on. False, and no change, where few rows run plain."""
        self._after = self._after if self.plain is not None else "gelu"
        return self.plain is None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.plain is not None and not self._first <= x.numel() < self._end:
            return cast(torch.Tensor, self.plain(x))
        return multiply(x, self.packed, self.bias, self._after)


Measure: TypeAlias = Callable[[Sequence[nn.Module], Sequence[int]], Sequence[Timing]]
"""What linears of one shape take with so many rows each."""


def pack(model: nn.Module, rows: Sequence[int], spare_bytes: int = 0, measure: Measure = measured) -> list[Packed]:
    """Lays the weights of the model's linears out as is fastest for such numbers of `rows`, in place.

    spare_bytes: how much more the model may hold than now: for keeping both layouts where few rows are faster plain, and for
    packing a weight that another module uses too (a head that is tied to the embedding). Nothing happens off the CPU, in
    other types than float32 and bfloat16, and where this torch has no packed op. Takes 0.3 s or so a shape.
    """
    done = []
    with torch.inference_mode():
        for shape, places in _by_shape(model).items():
            weight_bytes = sum(matrix(place.linear).nbytes for place in places)
            choice = choose(
                measure([place.linear for place in places], rows),
                may_keep_both=weight_bytes <= spare_bytes,
                is_copied=shape.is_tied,
            )
            if choice.first_rows is not None:
                spare_bytes -= weight_bytes if shape.is_tied or choice.first_rows > 1 else 0
            for place in places:
                place.lay_out(choice)
            done.append(Packed((shape.out_features, shape.in_features), len(places), choice))
    return done


def fuse_gelu(model: nn.Module) -> int:
    """Moves GELUs into the packed linears before them, where the model names them as BERT's family does. How many."""
    fused = 0
    for module in model.modules():
        dense, activation = getattr(module, "dense", None), getattr(module, "intermediate_act_fn", None)
        if isinstance(dense, PackedLinear) and type(activation) is GELUActivation and dense.take_over_gelu():
            module.intermediate_act_fn = nn.Identity()
            fused += 1
    return fused


def held_bytes(model: nn.Module) -> int:
    """Of its parameters, buffers and packed weights."""
    tensors = [*model.parameters(), *model.buffers()]
    packed = [linear.packed for linear in _packed_linears(model) if linear.packed is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, *packed))


def release(model: nn.Module) -> None:
    """Frees the memory of its weights, whoever still holds the model. It cannot compute any more."""
    for linear in _packed_linears(model):
        linear.packed = None
    model.to("meta")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What linears have in common that are measured as one."""

    out_features: int
    in_features: int
    dtype: torch.dtype
    has_bias: bool
    is_tied: bool  # another module has the same weight


class _Place:
    """A linear and wherever the model uses it."""

    def __init__(self, linear: nn.Module) -> None:
        self.linear = linear
        self.users: list[tuple[nn.Module, str]] = []

    def lay_out(self, choice: Choice) -> None:
        """The weight as it was is free after this, unless it is kept."""
        plain = self.linear
        if choice.first_rows is not None:
            self.linear = PackedLinear(plain, choice.first_rows, choice.plain_from)
            for parent, name in self.users:
                setattr(parent, name, self.linear)
        if choice.is_turned:
            weight = cast(torch.Tensor, plain.weight)
            weight.data = turned(weight.data)


def _by_shape(model: nn.Module) -> dict[_Shape, list[_Place]]:
    """Its plain linears that can be packed. No subclasses: what those do beside the product is not known."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    places: dict[nn.Module, _Place] = {}
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) in (nn.Linear, Conv1D) and not child._forward_hooks and not child._forward_pre_hooks:
                places.setdefault(child, _Place(child)).users.append((parent, name))
    found: dict[_Shape, list[_Place]] = {}
    for linear, place in places.items():
        weight = matrix(linear)
        if weight.device.type == "cpu" and weight.numel() >= LEAST_WEIGHTS and can_pack(weight.dtype):
            shape = _Shape(
                weight.shape[0], weight.shape[1], weight.dtype, linear.bias is not None, owners[id(linear.weight)] > 1
            )
            found.setdefault(shape, []).append(place)
    return found


def _packed_linears(model: nn.Module) -> Iterator[PackedLinear]:
    return (module for module in model.modules() if isinstance(module, PackedLinear))
