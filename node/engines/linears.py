"""Linear layers of a model on a CPU, their weights in oneDNN's own layout where that is measured to be faster.

Not about which model: any engine may hand its modules to `pack`.

What torch calls for a plain linear lays the weight out anew in every call or, in float32, leaves it to BLAS. The packed op
is the one that inductor emits for frozen models. Whether it wins depends on the processor, the shape and the rows: on one
processor 2 to 3 times, on another only from 4 rows on, and one row alone takes 1.5 times as long. So it is measured at load.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import torch
from torch import nn
from transformers.activations import GELUActivation
from transformers.pytorch_utils import Conv1D

HYSTERESIS: Final = 1.05  # a gain smaller than this is noise
SAMPLE_BYTES: Final = (
    32 << 20
)  # of weights that a measurement walks through, so that no cache holds what a model's cannot
SAMPLE_ROWS: Final = 256  # times weights: with many rows the weights do not count, and one is enough
LEAST_WEIGHTS: Final = 1 << 16  # of a linear: in smaller ones the call is what takes the time
MOST_PRODUCTS: Final = 1 << 30  # multiply-adds of one call: a head of 150,000 tokens is not measured with 256 rows
ROWS_STEP: Final = 16  # more rows are filled up to a multiple: oneDNN keeps a kernel for each number of rows
MEASURE_S: Final = 0.02  # for one shape, one number of rows and one way; three runs at least


@dataclass(frozen=True, slots=True)
class Timing:
    """What so many rows take, in seconds."""

    rows: int
    plain_s: float
    packed_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    """How the linears of one shape run: packed from so many rows on, plain below. 1: always packed; None: never."""

    first_rows: int | None
    gain: float = 1.0  # of speed, the geometric mean over the measured rows


@dataclass(frozen=True, slots=True)
class Packed:
    """What became of the linears of one shape."""

    shape: tuple[int, int]  # (out, in)
    modules: int
    choice: Choice


class PackedLinear(nn.Module):
    """Computes what `plain` does. `plain` is kept, with its weight, where it is the faster one for fewer than `first_rows`.

    A row's result does not depend on how many rows ride along, beyond rounding: 1e-6 of the largest result.
    """

    def __init__(self, plain: nn.Module, first_rows: int) -> None:
        super().__init__()
        weight = _matrix(plain)
        self.out_features, self.in_features = weight.shape
        self.bias = _bias(plain)
        self.weight = torch.empty_like(weight, device="meta")  # for those that ask for its dtype or shape
        self.packed: torch.Tensor | None = _reorder(weight)  # opaque: neither a parameter nor a buffer, it cannot move
        self.plain = plain if first_rows > 1 else None
        self._first_rows = first_rows
        self._after = "none"  # what oneDNN computes on the result before it is written

    def take_over_gelu(self) -> bool:
        """Computes GELU (the exact one) on each result from now on. False, and no change, where few rows run plain."""
        self._after = self._after if self.plain is not None else "gelu"
        return self.plain is None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.plain is not None and x.numel() < self._first_rows * self.in_features:
            return cast(torch.Tensor, self.plain(x))
        return _linear(x, self.packed, self.bias, self._after)


def counts(rows: Sequence[int], weights: int) -> list[int]:
    """The numbers of rows to measure for a linear of so many weights: ascending, and none that takes for ever."""
    most = max(1, MOST_PRODUCTS // weights)
    return sorted({min(count, most) for count in rows})


def measured(linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    """Of linears of one shape, for ascending numbers of rows."""
    weight = _matrix(linears[0])
    plain = linears[: max(1, SAMPLE_BYTES // weight.nbytes)]
    packed = [(_reorder(_matrix(linear)), _bias(linear)) for linear in plain]
    return [
        _measured(plain[:weights], packed[:weights], count)
        for count in counts(rows, weight.numel())
        for weights in [max(1, SAMPLE_ROWS // count)]
    ]


Measure: TypeAlias = Callable[[Sequence[nn.Module], Sequence[int]], Sequence[Timing]]
"""What linears of one shape take with so many rows each."""


def pack(model: nn.Module, rows: Sequence[int], spare_bytes: int = 0, measure: Measure = measured) -> list[Packed]:
    """Swaps the model's linears for packed ones where those are faster for such numbers of `rows`, in place.

    spare_bytes: how much more the model may hold than now: for keeping both layouts where few rows are faster plain, and for
    packing a weight that another module uses too (a head that is tied to the embedding). Nothing happens off the CPU, in
    other types than float32 and bfloat16, and where this torch has no packed op. Takes 0.2 s or so a shape.
    """
    done = []
    with torch.inference_mode():
        for shape, places in _by_shape(model).items():
            weight_bytes = sum(_matrix(place.linear).nbytes for place in places)
            choice = choose(
                measure([place.linear for place in places], rows),
                may_keep_both=weight_bytes <= spare_bytes,
                is_copied=shape.is_tied,
            )
            if choice.first_rows is not None:
                spare_bytes -= weight_bytes if shape.is_tied or choice.first_rows > 1 else 0
                for place in places:
                    place.swap(choice.first_rows)
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


def choose(timings: Sequence[Timing], *, may_keep_both: bool, is_copied: bool) -> Choice:
    """The choice that gains most over the rows, in geometric mean; the one that keeps less where the gain is the same.

    is_copied: the plain weight stays anyway, so that packing costs memory whatever the choice.
    """
    if is_copied and not may_keep_both:
        return Choice(None)
    best = Choice(None)
    starts = [1] if not may_keep_both else [1, *(timing.rows for timing in timings if timing.rows > 1)]
    for first_rows in starts:
        gain = _gain(timings, first_rows)
        if gain >= best.gain * HYSTERESIS:
            best = Choice(first_rows, gain)
    return best


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


def _gain(timings: Sequence[Timing], first_rows: int) -> float:
    gains = [math.log(timing.plain_s / timing.packed_s) for timing in timings if timing.rows >= first_rows]
    return math.exp(sum(gains) / len(timings))


def _reorder(weight: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None))


def _linear(
    x: torch.Tensor, packed: torch.Tensor | None, bias: torch.Tensor | None, after: str = "none"
) -> torch.Tensor:
    """x (..., rows, in). Filled up with zeros to few different numbers of rows: kernels for 500 of them took 100 MiB and were
    never given back."""
    rows = x.numel() // x.shape[-1]
    missing = -rows % ROWS_STEP if rows > ROWS_STEP else 0
    if not missing:
        return cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], "none"))
    filled = nn.functional.pad(x.reshape(rows, x.shape[-1]), (0, 0, 0, missing))
    out = cast(torch.Tensor, torch.ops.mkldnn._linear_pointwise(filled, packed, bias, after, [], "none"))
    return out[:rows].view(*x.shape[:-1], out.shape[-1])


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has the private ops, and this processor the instructions."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch does not say
        return False
    try:
        torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise  # noqa: B018 - raises where unknown
        return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except AttributeError:
        return False


def _matrix(linear: nn.Module) -> torch.Tensor:
    """(out, in)."""
    weight = cast(torch.Tensor, linear.weight)
    return weight.t() if isinstance(linear, Conv1D) else weight


def _bias(linear: nn.Module) -> torch.Tensor | None:
    return cast(torch.Tensor | None, linear.bias)


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

    def swap(self, first_rows: int) -> None:
        """The weight is free after this, unless it is kept."""
        self.linear = PackedLinear(self.linear, first_rows)
        for parent, name in self.users:
            setattr(parent, name, self.linear)


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
        weight = _matrix(linear)
        if weight.device.type == "cpu" and weight.numel() >= LEAST_WEIGHTS and can_pack(weight.dtype):
            shape = _Shape(
                weight.shape[0], weight.shape[1], weight.dtype, linear.bias is not None, owners[id(linear.weight)] > 1
            )
            found.setdefault(shape, []).append(place)
    return found


def _packed_linears(model: nn.Module) -> Iterator[PackedLinear]:
    return (module for module in model.modules() if isinstance(module, PackedLinear))


def _measured(
    linears: Sequence[nn.Module], packed: Sequence[tuple[torch.Tensor, torch.Tensor | None]], rows: int
) -> Timing:
    weight = _matrix(linears[0])
    x = torch.ones(rows, weight.shape[1], dtype=weight.dtype)

    def run_plain() -> None:
        for linear in linears:
            linear(x)

    def run_packed() -> None:
        for weight, bias in packed:
            _linear(x, weight, bias)

    return Timing(rows, *_fastest(run_plain, run_packed))


def _fastest(*ways: Callable[[], None]) -> list[float]:
    """The shortest of several runs of each, in turn: what else the machine does only makes runs longer."""
    for way in ways:
        way()  # the first makes oneDNN's kernel
    times: list[list[float]] = [[] for _ in ways]
    ends = time.perf_counter() + MEASURE_S * len(ways)
    while len(times[0]) < 3 or time.perf_counter() < ends:
        for way, taken in zip(ways, times, strict=True):
            started = time.perf_counter()
            way()
            taken.append(time.perf_counter() - started)
    return [min(taken) for taken in times]
