"""Packed steps over the slot cache give the logits of a full eager forward, for the families that are taken."""

import random
from typing import Any

import pytest
import torch
import transformers
from reference_varlen import reference_varlen
from tiny import build, small

from node.engines.text.attention import Chunk, packed
from node.engines.text.last_layer import RowByRow
from node.engines.text.model import TextModel, prove
from node.engines.text.varlen import Attend
from protos.errors import LoadFailed

CPU = torch.device("cpu")
LENGTHS = (33, 20, 7)
SLIDING = ["sliding_attention", "full_attention"]

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", {"num_key_value_heads": 1}),
    "mistral": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral with a window": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": 8}),
    "gemma3": (
        "Gemma3TextConfig",
        {"num_key_value_heads": 2, "query_pre_attn_scalar": 8, "sliding_window": 6, "layer_types": SLIDING},
    ),
    "phi3": ("Phi3Config", {"num_key_value_heads": 2, "sliding_window": None}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 96}),
    "opt": ("OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "gpt neox": ("GPTNeoXConfig", {}),
}


def config_of(family: str) -> transformers.PretrainedConfig:
    name, changes = FAMILIES[family]
    return getattr(transformers, name)(**{**small(), **changes})


def eager(model: TextModel, sequence: list[int]) -> torch.Tensor:
    interface = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    logits = model.module(input_ids=torch.tensor([sequence]), use_cache=False).logits[0]
    model.module.set_attn_implementation(interface)
    return logits


def stepwise(model: TextModel, sequences: list[list[int]], choice: random.Random) -> list[torch.Tensor]:
    """The logits of each sequence by steps of random chunks, in slots that are moved half-way."""
    pool = model.new_pool(len(sequences) + 1, 64)
    slots, done = list(range(len(sequences))), [0] * len(sequences)
    found: list[list[torch.Tensor]] = [[] for _ in sequences]
    while any(done[i] < len(sequence) for i, sequence in enumerate(sequences)):
        if done[0] > 10 and slots[0] == 0:
            pool.move(0, len(sequences), done[0])
            slots[0] = len(sequences)
        counts = [min(choice.choice([0, 1, 1, 5, 9]), len(s) - done[i]) for i, s in enumerate(sequences)]
        busy = [i for i, count in enumerate(counts) if count]
        if not busy:
            continue
        chunks = [Chunk(slots[i], done[i], counts[i]) for i in busy]
        order = packed(chunks)
        ids = [
            token for at in order for token in sequences[busy[at]][done[busy[at]] : done[busy[at]] + counts[busy[at]]]
        ]
        logits = model.run(torch.tensor(ids), [chunks[at] for at in order], pool, range(len(ids)))
        for at, part in zip(order, logits.split([chunks[at].count for at in order]), strict=True):
            found[busy[at]].append(part)
        for i in busy:
            done[i] += counts[i]
    return [torch.cat(parts) for parts in found]


@pytest.mark.parametrize("attend", [None, reference_varlen], ids=["by groups", "varlen"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_packed_steps_equal_a_full_forward(family: str, attend: Attend | None) -> None:
    model = prove(family, build(config_of(family)), CPU, attend)
    choice = random.Random(family)
    sequences = [[choice.randrange(small()["vocab_size"]) for _ in range(length)] for length in LENGTHS]
    found = stepwise(model, sequences, choice)
    for sequence, logits in zip(sequences, found, strict=True):
        expected = eager(model, sequence)
        assert expected.std() > 0.05
        assert torch.allclose(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_last_layer_computes_the_rows_alone_whose_logits_are_asked_for(family: str) -> None:
    model = prove(family, build(config_of(family)), CPU)
    assert model.last_layer is not None, "its last layer computes every row"
    choice = random.Random(family)
    one, two = ([choice.randrange(small()["vocab_size"]) for _ in range(length)] for length in (20, 6))
    expected = eager(model, one)[-1]
    widest = max(model.module.modules(), key=lambda each: isinstance(each, RowByRow) and _weights(each))
    seen: list[int] = []
    widest.inner.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2]))
    pool = model.new_pool(2, 64)
    model.run(torch.tensor(one[:12] + two), [Chunk(0, 0, 12), Chunk(1, 0, 6)], pool, [17])
    logits = model.run(torch.tensor(one[12:]), [Chunk(0, 12, 8)], pool, [7])
    assert seen == [1, 1]
    assert torch.allclose(logits[0], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_last_layer_that_is_not_computed_row_by_row_computes_them_all() -> None:
    """Its feed-forward part adds what another part left of every row."""
    module = build(config_of("llama"))
    last = module.model.layers[-1]
    left: list[torch.Tensor] = []
    last.input_layernorm.register_forward_hook(lambda _, __, out: left.append(out))
    last.mlp.register_forward_hook(lambda _, __, out: out + left[-1])
    adding = last.mlp
    assert prove("adding", module, CPU).last_layer is None
    assert last.mlp is adding


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_model_that_caps_its_attention_scores_is_refused() -> None:
    config = transformers.Gemma2Config(**{**small(), "num_key_value_heads": 2, "query_pre_attn_scalar": 8})
    with pytest.raises(LoadFailed, match="uses softcap"):
        prove("gemma2", build(config), CPU)


def test_a_model_whose_attention_cannot_be_replaced_is_refused() -> None:
    config = transformers.BloomConfig(vocab_size=small()["vocab_size"], hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(LoadFailed, match="cannot be replaced"):
        prove("bloom", build(config), CPU)


def test_a_model_whose_logits_come_out_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that scales its scores in a way that it does not tell."""
    model = build(transformers.LlamaConfig(**{**small(), "num_key_value_heads": 2}))
    from transformers.models.llama import modeling_llama

    honest = modeling_llama.eager_attention_forward
    monkeypatch.setattr(
        modeling_llama, "eager_attention_forward", lambda *args, **kw: honest(*args, **{**kw, "scaling": 0.1})
    )
    with pytest.raises(LoadFailed, match="its logits differ"):
        prove("scaled", model, CPU)
