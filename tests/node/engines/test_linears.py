"""Packed linears compute what plain ones do, whoever rides along, and are taken only where they are measured to be faster."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn
from transformers.activations import GELUActivation, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from node.engines.layouts import Choice, Timing, can_pack, choose, counts, measured
from node.engines.linears import Measure, Packed, PackedLinear, fuse_gelu, held_bytes, pack, release

WIDTH, OUT = 256, 384
ROWS = (1, 8, 64, 256)
TYPES = [dtype for dtype in (torch.float32, torch.bfloat16) if can_pack(dtype)]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 1e-2}


class Block(nn.Module):
    """Linears in the ways that models use them: with and without a bias, turned, in a list, twice, tied."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(OUT, WIDTH)
        self.up = nn.Linear(WIDTH, OUT)
        self.turned = Conv1D(WIDTH, OUT)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, OUT, bias=False), nn.Linear(OUT, WIDTH, bias=False)])
        self.again = self.layers[0]
        self.head = nn.Linear(WIDTH, OUT, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.turned(self.up(self.embedding(ids)))
        for layer in self.layers:
            x = layer(x)
        return self.head(x) + self.again(x)


def always_faster(_linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    return [Timing(count, plain_s=2.0, packed_s=1.0) for count in rows]


def faster_from_8(_linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    return [Timing(count, plain_s=2.0, packed_s=1.0 if count >= 8 else 4.0) for count in rows]


def never_faster(_linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    return [Timing(count, plain_s=1.0, packed_s=1.0) for count in rows]


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.arange(0, OUT, 7)[None]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).float().abs().max() / expected.float().abs().max()).item()


def places(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, PackedLinear)}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("inner", [WIDTH, 1536])
@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype: torch.dtype, inner: int) -> None:
    torch.manual_seed(1)
    linear = PackedLinear(nn.Linear(inner, OUT, dtype=dtype), first_rows=1)
    x = torch.randn(300, inner, dtype=dtype)
    together = linear(x)
    for start, rows in [(0, 1), (7, 1), (0, 2), (3, 8), (40, 17), (100, 64), (44, 256)]:
        assert relative(linear(x[start : start + rows]), together[start : start + rows]) <= ROUNDING[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("make", [lambda: nn.Linear(WIDTH, OUT), lambda: nn.Linear(WIDTH, OUT, bias=False)])
@torch.inference_mode()
def test_packed_equals_plain(dtype: torch.dtype, make: Callable[[], nn.Module]) -> None:
    plain = make().to(dtype)
    packed = PackedLinear(plain, first_rows=1)
    for shape in [(WIDTH,), (1, WIDTH), (1, 33, WIDTH), (2, 5, WIDTH), (0, WIDTH)]:
        x = torch.randn(shape, dtype=dtype)
        assert packed(x).shape == plain(x).shape
        torch.testing.assert_close(packed(x), plain(x), rtol=ROUNDING[dtype], atol=2 * ROUNDING[dtype])


@torch.inference_mode()
def test_every_use_of_a_linear_is_swapped(block: Block, ids: torch.Tensor) -> None:
    expected = block(ids)
    done = pack(block, ROWS, measure=always_faster)
    assert places(block) == {"up", "turned", "layers.0", "layers.1", "again"}
    assert block.again is block.layers[0]
    assert relative(block(ids), expected) <= 1e-5
    assert sum(one.modules for one in done if one.choice.first_rows) == 4


class Intermediate(nn.Module):
    """As in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, OUT)
        self.intermediate_act_fn = GELUActivation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.intermediate_act_fn(self.dense(x))


@pytest.mark.parametrize(("spare_bytes", "measure", "fused"), [(0, always_faster, 1), (1 << 30, faster_from_8, 0)])
@torch.inference_mode()
def test_a_gelu_is_computed_by_the_packed_linear_before_it(spare_bytes: int, measure: Measure, fused: int) -> None:
    torch.manual_seed(2)
    block, x = Intermediate(), torch.randn(33, WIDTH)
    expected = [block(rows) for rows in (x, x[:2])]
    pack(block, ROWS, spare_bytes, measure)
    assert fuse_gelu(block) == fused, "one whose few rows run plain keeps its GELU"
    for rows, result in zip((x, x[:2]), expected, strict=True):
        torch.testing.assert_close(block(rows), result, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_gelu_that_is_not_the_exact_one_stays() -> None:
    block = Intermediate()
    block.intermediate_act_fn = NewGELUActivation()
    pack(block, ROWS, measure=always_faster)
    assert fuse_gelu(block) == 0


def test_a_tied_head_is_packed_only_where_there_is_memory_for_a_copy(block: Block) -> None:
    head_bytes = OUT * WIDTH * 4
    before = held_bytes(block)
    pack(block, ROWS, spare_bytes=head_bytes - 1, measure=always_faster)
    assert "head" not in places(block)
    assert held_bytes(block) == before
    pack(block, ROWS, spare_bytes=head_bytes, measure=always_faster)
    assert "head" in places(block)
    assert held_bytes(block) == before + head_bytes


@torch.inference_mode()
def test_few_rows_run_plain_where_both_layouts_may_be_kept(block: Block, ids: torch.Tensor) -> None:
    expected, before = block(ids), held_bytes(block)
    up_bytes = OUT * WIDTH * 4
    done = pack(block, ROWS, spare_bytes=up_bytes, measure=faster_from_8)
    assert done[0] == Packed((OUT, WIDTH), 1, Choice(8, gain=pytest.approx(2 ** (3 / 4))))
    assert block.up.plain is not None
    assert block.layers[0].plain is None, "the spare memory was spent"
    assert held_bytes(block) == before + up_bytes
    assert relative(block(ids), expected) <= 1e-5


def test_nothing_is_swapped_that_is_not_faster(block: Block) -> None:
    done = pack(block, ROWS, spare_bytes=1 << 30, measure=never_faster)
    assert places(block) == set()
    assert {one.choice for one in done} == {Choice(None)}


def test_linears_of_other_types_and_devices_and_small_ones_stay() -> None:
    assert pack(nn.Sequential(nn.Linear(WIDTH, OUT, dtype=torch.float64)), ROWS, measure=always_faster) == []
    assert pack(nn.Sequential(nn.Linear(WIDTH, OUT, device="meta")), ROWS, measure=always_faster) == []
    assert pack(nn.Sequential(nn.Linear(16, 16)), ROWS, measure=always_faster) == []


def test_a_linear_with_a_hook_stays(block: Block) -> None:
    block.up.register_forward_hook(lambda *call: call[-1] * 2)
    pack(block, ROWS, measure=always_faster)
    assert "up" not in places(block)


def test_released_weights_are_gone(block: Block) -> None:
    pack(block, ROWS, measure=always_faster)
    release(block)
    assert block.up.packed is None
    assert all(parameter.device.type == "meta" for parameter in block.parameters())


def test_a_packed_linear_still_tells_its_shape_and_type(block: Block) -> None:
    pack(block, ROWS, measure=always_faster)
    assert block.up.weight.shape == (OUT, WIDTH)
    assert block.turned.weight.dtype == torch.float32
    assert (block.up.in_features, block.up.out_features) == (WIDTH, OUT)


@torch.inference_mode()
def test_measuring_gives_a_time_for_every_number_of_rows() -> None:
    timings = measured([nn.Linear(WIDTH, OUT), nn.Linear(WIDTH, OUT)], (256, 1))
    assert [timing.rows for timing in timings] == [1, 256]
    assert all(timing.plain_s > 0 and timing.packed_s > 0 for timing in timings)


def test_large_linears_are_measured_with_fewer_rows() -> None:
    assert counts((256, 1, 64), weights=1 << 20) == [1, 64, 256]
    assert counts((256, 1, 64), weights=1 << 27) == [1, 8]
    assert counts((256, 1, 64), weights=1 << 31) == [1]


def times(*pairs: tuple[int, float]) -> list[Timing]:
    """(rows, how many times as fast packed is)."""
    return [Timing(rows, plain_s=gain, packed_s=1.0) for rows, gain in pairs]


@pytest.mark.parametrize(
    ("timings", "may_keep_both", "is_copied", "expected"),
    [
        (times((1, 2.0), (64, 2.0)), True, False, 1),
        (times((1, 0.5), (64, 3.0)), False, False, 1),
        (times((1, 0.5), (64, 3.0)), True, False, 64),
        (times((1, 0.5), (64, 1.5)), False, False, None),
        (times((1, 1.04), (64, 1.04)), True, False, None),
        (times((1, 0.98), (64, 2.0)), True, False, 1),
        (times((1, 2.0), (64, 2.0)), False, True, None),
        (times((1, 2.0), (64, 2.0)), True, True, 1),
        (times((1, 0.5), (64, 0.9)), True, True, None),
    ],
    ids=[
        "faster everywhere",
        "faster on the whole",
        "plain below",
        "slower on the whole",
        "as fast",
        "a loss that is noise is no reason to keep both",
        "no memory for a copy",
        "a copy",
        "slower everywhere",
    ],
)
def test_the_choice(timings: list[Timing], may_keep_both: bool, is_copied: bool, expected: int | None) -> None:
    assert choose(timings, may_keep_both=may_keep_both, is_copied=is_copied).first_rows == expected


@pytest.mark.parametrize(
    ("timings", "may_keep_both", "expected"),
    [
        (times((1, 0.5), (8, 3.0), (128, 0.8), (512, 0.9)), True, 128),
        (times((1, 0.5), (8, 3.0), (128, 0.8), (512, 1.0)), True, None),
        (times((1, 0.5), (8, 3.0), (128, 1.1), (512, 0.9)), True, 512),
        (times((1, 0.9), (8, 3.0), (128, 0.8), (512, 0.9)), False, None),
        (times((1, 2.0), (8, 3.0), (128, 0.8), (512, 0.9)), True, None),
    ],
    ids=["from a prompt on", "not with most", "with most alone", "no memory for both", "no reason to keep both"],
)
def test_many_rows_run_plain_again_where_the_plain_weight_is_kept_anyway(
    timings: list[Timing], may_keep_both: bool, expected: int | None
) -> None:
    assert choose(timings, may_keep_both=may_keep_both, is_copied=False).plain_from == expected


@torch.inference_mode()
def test_each_number_of_rows_runs_in_its_own_layout() -> None:
    plain = nn.Linear(WIDTH, OUT)
    rows_of_plain: list[int] = []
    plain.register_forward_pre_hook(lambda _, given: rows_of_plain.append(len(given[0])))
    packed = PackedLinear(plain, first_rows=8, plain_from=128)
    for rows in (1, 7, 8, 127, 128, 512):
        x = torch.randn(rows, WIDTH)
        assert relative(packed(x), nn.functional.linear(x, plain.weight, plain.bias)) <= 1e-5
    assert rows_of_plain == [1, 7, 128, 512]


def turned_for_one(rows: int, packed_s: float = 1.0) -> Timing:
    """A turned weight that is faster for one row and slower for more, as BLAS has it."""
    return Timing(rows, plain_s=1.0, packed_s=packed_s, turned_s=0.5 if rows == 1 else 2.0)


@pytest.mark.parametrize(
    ("timings", "may_keep_both", "is_copied", "expected"),
    [
        ([turned_for_one(1), turned_for_one(8, 0.5)], True, False, Choice(2, is_turned=True, gain=pytest.approx(2.0))),
        ([turned_for_one(1), turned_for_one(8, 0.5)], False, False, Choice(1, gain=pytest.approx(2**0.5))),
        ([turned_for_one(1)], False, False, Choice(None, is_turned=True, gain=pytest.approx(2.0))),
        ([turned_for_one(1), turned_for_one(8, 0.5)], True, True, Choice(1, gain=pytest.approx(2**0.5))),
    ],
    ids=["one row turned and more packed", "no memory for both", "one row is all there is", "a tied weight stays"],
)
def test_a_turned_weight_is_for_one_row(
    timings: list[Timing], may_keep_both: bool, is_copied: bool, expected: Choice
) -> None:
    assert choose(timings, may_keep_both=may_keep_both, is_copied=is_copied) == expected


def best_turned(_linears: Sequence[nn.Module], rows: Sequence[int]) -> list[Timing]:
    return [turned_for_one(count) for count in rows]


@torch.inference_mode()
def test_turned_weights_give_the_same_results_and_keep_no_more(block: Block, ids: torch.Tensor) -> None:
    expected, before = block(ids), held_bytes(block)
    pack(block, (1,), measure=best_turned)
    assert block.up.weight.stride() == (1, OUT)
    assert block.turned.weight.stride() == (1, OUT)
    assert block.head.weight.is_contiguous(), "it is the embedding's"
    assert held_bytes(block) == before
    assert relative(block(ids), expected) <= 1e-5
