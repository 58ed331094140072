"""In which layout a linear's weight is the fastest on a CPU: as it is, turned, or in oneDNN's own; measured, then chosen.

What torch calls for a plain linear lays the weight out anew in every call or, in float32, leaves it to BLAS. oneDNN's packed op is
the one that inductor emits for frozen models. Which is the fastest depends on the processor, the shape and the rows: on one
processor packed wins 2 to 3 times, on another only from 4 rows on, and one row alone takes 1.5 times as long; there, one row
is 1.3 to 1.6 times as fast in a turned weight that gives more than it takes, and two rows half as fast. Not about models (linears.py).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

HYSTERESIS: Final = 1.05  # a gain smaller than this is noise
SAMPLE_BYTES: Final = (
    32 << 20
)  # of weights that a measurement walks through, so that no cache holds what a model's cannot
SAMPLE_ROWS: Final = 256  # times weights: with many rows the weights do not count, and one is enough
MOST_PRODUCTS: Final = 1 << 30  # multiply-adds of one call: a head of 150,000 tokens is not measured with 256 rows
ROWS_STEP: Final = 16  # more rows are filled up to a multiple: oneDNN keeps a kernel for each number of rows
MEASURE_S: Final = 0.02  # for one shape, one number of rows and one way
LEAST_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """What so many rows take, in seconds."""

    rows: int
    plain_s: float
    packed_s: float
    turned_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """How the linears of one shape run: packed from so many rows on, plain below. 1: always packed; None: never."""

    first_rows: int | None
    is_turned: bool = False  # the plain weight
    gain: float = 1.0  # of speed, the geometric mean over the measured rows
    plain_from: int | None = None  # rows of which on the plain weight, which is kept for few, is the faster again

    def seconds(self, timing: Timing) -> float:
        is_packed = self.first_rows is not None and timing.rows >= self.first_rows
        if is_packed and (self.plain_from is None or timing.rows < self.plain_from):
            return timing.packed_s
        return self.plain_seconds(timing)

    def plain_seconds(self, timing: Timing) -> float:
        return timing.turned_s if self.is_turned else timing.plain_s


def choose(timings: Sequence[Timing], *, may_keep_both: bool, is_copied: bool) -> Choice:
    """The choice that gains most over the rows, in geometric mean; the one that keeps less where the gain is the same.

    is_copied: the plain weight stays as it is for another module, so that packing costs memory whatever the choice.
    """
    if is_copied and not may_keep_both:
        return Choice(None)
    ways: list[tuple[int | None, bool]] = [(1, False)] if is_copied else [(1, False), (None, True)]
    if may_keep_both:
        ways += [(timing.rows, False) for timing in timings if timing.rows > 1]
        ways += [] if is_copied else [(2, True)]  # a turned weight is for one row alone
    best = Choice(None)
    for first_rows, is_turned in ways:
        way = Choice(first_rows, is_turned, plain_from=_plain_from(timings, Choice(first_rows, is_turned)))
        gain = _gain(timings, way)
        if gain >= best.gain * HYSTERESIS:
            best = replace(way, gain=gain)
    return best


def _plain_from(timings: Sequence[Timing], choice: Choice) -> int | None:
    """Costs no memory where both weights are kept: from the fewest rows on from which each measured number runs faster plain."""
    if choice.first_rows is None or choice.first_rows == 1:
        return None
    found = None
    for timing in reversed(timings):
        if timing.rows <= choice.first_rows or timing.packed_s <= choice.plain_seconds(timing):
            break
        found = timing.rows
    return found


def _gain(timings: Sequence[Timing], choice: Choice) -> float:
    gains = [math.log(timing.plain_s) - math.log(choice.seconds(timing)) for timing in timings]
    return math.exp(sum(gains) / len(gains))


def counts(rows: Sequence[int], weights: int) -> list[int]:
    """The numbers of rows to measure for a linear of so many weights: ascending, and none that takes for ever."""
    most = max(1, MOST_PRODUCTS // weights)
    return sorted({min(count, most) for count in rows})


def measured(linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    """Of linears of one shape, for ascending numbers of rows."""
    weight = matrix(linears[0])
    sample = [_Sample(linear) for linear in linears[: max(1, SAMPLE_BYTES // weight.nbytes)]]
    return [
        _measured(sample[: max(1, SAMPLE_ROWS // count)], torch.ones(count, weight.shape[1], dtype=weight.dtype))
        for count in counts(rows, weight.numel())
    ]


class _Sample:
    """A linear in each layout."""

    def __init__(self, plain: nn.Module) -> None:
        self.plain = plain
        self.packed, self.bias = reorder(matrix(plain)), bias(plain)
        self.turned = matrix(plain, turned(cast(torch.Tensor, plain.weight)))


def _measured(samples: Sequence[_Sample], x: torch.Tensor) -> Timing:
    def run_plain() -> None:
        for sample in samples:
            sample.plain(x)

    def run_packed() -> None:
        for sample in samples:
            multiply(x, sample.packed, sample.bias)

    def run_turned() -> None:
        for sample in samples:
            nn.functional.linear(x, sample.turned, sample.bias)

    return Timing(len(x), *_fastest(run_plain, run_packed, run_turned))


def _fastest(*ways: Callable[[], None]) -> list[float]:
    """The shortest of several runs of each, in turn, by the thread's own time: whatever else the machine does only makes runs
    longer, and a run that was interrupted would say nothing."""
    for way in ways:
        way()  # the first makes oneDNN's kernel
    times: list[list[float]] = [[] for _ in ways]
    ends = time.perf_counter() + MEASURE_S * len(ways)
    while len(times[0]) < LEAST_RUNS or time.perf_counter() < ends:
        for way, taken in zip(ways, times, strict=True):
            started = time.thread_time()
            way()
            taken.append(max(time.thread_time() - started, 1e-9))
    return [min(taken) for taken in times]


def reorder(weight: torch.Tensor) -> torch.Tensor:
    """(out, in) in oneDNN's layout, which nothing but `multiply` reads."""
    return cast(torch.Tensor, torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None))


def turned(weight: torch.Tensor) -> torch.Tensor:
    """The same weight, its columns where its rows lay in memory."""
    return weight.t().contiguous().t()


def multiply(
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


def matrix(linear: nn.Module, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Its weight, or the other one, as (out, in)."""
    found = cast(torch.Tensor, linear.weight if weight is None else weight)
    return found.t() if isinstance(linear, Conv1D) else found


def bias(linear: nn.Module) -> torch.Tensor | None:
    return cast(torch.Tensor | None, linear.bias)
