"""What the variable-length kernel is told of a step, and who may be served by it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_varlen import reference_varlen
from tiny import build, llama_config
from torch.nn.attention.varlen import varlen_attn

from node.engines.text.attention import Chunk, packed
from node.engines.text.kv import LayerShape, TokenPool
from node.engines.text.model import prove
from node.engines.text.path import Facts, facts_of, path_of
from node.engines.text.varlen import VarlenLayout, layout_of, readings, varlen_attention
from protos.errors import LoadFailed

CPU = torch.device("cpu")
CONTEXT = 64
SHAPES = (LayerShape(2, 8, 8), LayerShape(1, 8, 8))


@st.composite
def steps(draw: st.DrawFn) -> list[Chunk]:
    """Chunks of some of eight slots, in packed order."""
    slots = draw(st.lists(st.integers(0, 7), unique=True, min_size=1))
    counts = draw(st.lists(st.sampled_from([1, 1, 2, 9]), min_size=len(slots), max_size=len(slots)))
    starts = draw(st.lists(st.integers(0, CONTEXT - 9), min_size=len(slots), max_size=len(slots)))
    chunks = [Chunk(*each) for each in zip(slots, starts, counts, strict=True)]
    return [chunks[i] for i in packed(chunks)]


@given(steps())
def test_each_token_is_in_one_reading_of_its_own_slot(chunks: list[Chunk]) -> None:
    found = readings(chunks, CONTEXT)
    assert [reading.begin for reading in found] == [0, *(reading.end for reading in found[:-1])]
    told = [each for r in found for each in zip(r.queries, r.keys_at, r.used, strict=True)]
    assert told == [(c.count, c.slot * CONTEXT, c.start + c.count) for c in chunks]
    assert all(len(set(reading.queries)) == 1 for reading in found[:-1])
    assert all(list(reading.keys_at) == sorted(reading.keys_at) for reading in found)


@given(steps())
def test_each_row_attends_to_what_its_slot_holds_and_to_itself(chunks: list[Chunk]) -> None:
    """Against the definition: softmax over the keys of the slot up to the row's own position."""
    torch.manual_seed(len(chunks))
    pool = TokenPool(SHAPES, 8, CONTEXT, torch.float32, CPU)
    past = torch.randn(2, 2, pool.tokens, 8)
    for layer, shape in enumerate(SHAPES):
        pool.write(layer, torch.arange(pool.tokens), past[0, : shape.kv_heads], past[1, : shape.kv_heads])
        layout = layout_of(chunks, pool, reference_varlen, CPU)
        tokens = sum(chunk.count for chunk in chunks)
        query, new = torch.randn(tokens, 4, 8), torch.randn(2, shape.kv_heads, tokens, 8)
        keys, values = pool.write(layer, layout.places, new[0], new[1])
        at = 0
        for chunk in chunks:
            begin = chunk.slot * CONTEXT
            for i in range(chunk.count):
                seen = slice(begin, begin + chunk.start + i + 1)
                assert torch.equal(keys[seen.stop - 1], new[0][:, at])
                expected = _attended(query[at], keys[seen], values[seen])
                assert torch.allclose(_by_calls(layout, query, keys, values)[at], expected, atol=1e-5)
                at += 1


def _attended(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    group = query.shape[0] // keys.shape[1]
    scores = torch.einsum("hd,thd->ht", query, keys.repeat_interleave(group, 1)) / query.shape[-1] ** 0.5
    return torch.einsum("ht,thd->hd", scores.softmax(-1), values.repeat_interleave(group, 1))


def _by_calls(layout: VarlenLayout, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    parts = [
        reference_varlen(
            query[call.rows], keys, values, call.cu_q, call.cu_k, call.max_q, call.max_k,
            window_size=call.window(None), enable_gqa=True, seqused_k=call.used,
        )
        for call in layout.calls
    ]  # fmt: skip
    return torch.cat(parts)


def test_slots_are_moved_and_cleared_and_the_others_stay() -> None:
    pool = TokenPool(SHAPES[:1], 3, CONTEXT, torch.float32, CPU)
    filled = torch.randn(2, pool.tokens, 8)
    keys, _ = pool.write(0, torch.arange(pool.tokens), filled, filled)
    before = keys.clone()
    pool.move(2, 0, 5)
    pool.clear(1)
    slots = keys.view(4, CONTEXT, 2, 8)
    expected = before.view(4, CONTEXT, 2, 8)
    assert torch.equal(slots[0, :5], expected[2, :5])
    assert torch.equal(slots[0, 5:], expected[0, 5:])
    assert not slots[1].any()
    assert torch.equal(slots[2:], expected[2:])
    assert pool.bytes == 2 * keys.numel() * 4


def test_a_kernel_that_misreads_the_cache_is_refused() -> None:
    def scaled(*args: torch.Tensor, scale: float | None, **options: object) -> torch.Tensor:
        return reference_varlen(*args, scale=3 * scale, **options)

    prove("tiny", build(llama_config()), CPU, reference_varlen)
    with pytest.raises(LoadFailed, match="its logits differ"):
        prove("tiny", build(llama_config()), CPU, scaled)


def test_torchs_own_kernel_takes_the_calls_that_are_made_or_is_not_chosen() -> None:
    """On tensors without numbers, whose shapes it works out by the same signature as on a device."""
    meta = torch.device("meta")
    if not facts_of(CPU, torch.bfloat16, SHAPES).reads_slots:
        with pytest.raises(TypeError, match="unexpected keyword"):
            _attention_on(meta)
        return
    assert _attention_on(meta) == (1, 7, 4, 8)


def _attention_on(device: torch.device) -> tuple[int, ...]:
    pool = TokenPool(SHAPES, 8, CONTEXT, torch.bfloat16, device)
    layout = layout_of([Chunk(1, 5, 1), Chunk(3, 0, 1), Chunk(2, 4, 5)], pool, varlen_attn, device)
    query, key, value = (torch.empty(1, heads, 7, 8, dtype=torch.bfloat16, device=device) for heads in (4, 2, 2))
    module = torch.nn.Module()
    module.layer_idx = 0
    return varlen_attention(module, query, key, value, None, fabric_layout=layout)[0].shape


GOOD = Facts("cuda", torch.bfloat16, (LayerShape(8, 128, 128),), (9, 0), reads_slots=True)


@pytest.mark.parametrize(
    ("facts", "why_not"),
    [
        (GOOD, None),
        (Facts("cuda", torch.float16, (LayerShape(1, 256, 256),), (8, 0), reads_slots=True), None),
        (Facts("cpu", torch.bfloat16, GOOD.layers, reads_slots=True), "the device is a cpu"),
        (Facts("cuda", torch.float32, GOOD.layers, (9, 0), reads_slots=True), "the model is in torch.float32"),
        (Facts("cuda", torch.bfloat16, GOOD.layers, (7, 5), reads_slots=True), "compute capability 7.5"),
        (Facts("cuda", torch.bfloat16, GOOD.layers, (9, 0), reads_slots=False), "seqused_k"),
        (Facts("cuda", torch.bfloat16, (LayerShape(1, 64, 32),), (9, 0), reads_slots=True), "64 numbers to a key and 32"),
        (Facts("cuda", torch.bfloat16, (LayerShape(1, 20, 20),), (9, 0), reads_slots=True), "20 numbers to a key"),
        (Facts("cuda", torch.bfloat16, (LayerShape(1, 512, 512),), (9, 0), reads_slots=True), "512 numbers to a key"),
    ],
)  # fmt: skip
def test_the_path_is_chosen_by_device_type_head_and_torch_and_says_why_not(facts: Facts, why_not: str | None) -> None:
    path = path_of(facts)
    assert path.is_varlen == (why_not is None)
    assert (why_not or "attention: varlen flash") in str(path)
