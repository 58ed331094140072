"""Models that cannot take the packed attention answer as their generate does, whoever else is there."""

import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import CPU, Desk, character_tokenizer, greedy, save, small, spec_of

from node.engines.text import load
from node.engines.text.attention import Chunk
from node.engines.text.engine import TextEngine
from node.engines.text.own_cache import OwnCaches
from protos.types import TaskId, TextRequest

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "falcon": ("FalconConfig", {}),
    "mamba": ("MambaConfig", {"state_size": 8}),
    "gemma2, which caps its attention scores": (
        "Gemma2Config",
        {"num_key_value_heads": 2, "query_pre_attn_scalar": 8, "sliding_window": 16, "head_dim": 8},
    ),
    "jamba, of layers with a state and with attention": (
        "JambaConfig",
        {
            "num_key_value_heads": 2,
            "num_experts": 2,
            "mamba_d_state": 8,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
        },
    ),
}
PROMPTS = ("a", "What is a circle?", "Tell me of the red square that stood beside the river.")


@pytest.fixture(scope="module", params=FAMILIES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name, changes = FAMILIES[request.param]
    sizes = {field: value for field, value in small().items() if field != "head_dim"}  # Falcon has no such field
    config = getattr(transformers, name)(**{**sizes, **changes})
    return save(tmp_path_factory.mktemp("own"), config)


@pytest.fixture(scope="module")
def desk(path: str) -> Desk:
    return Desk(load(spec_of(path, context_tokens=96, step_tokens=16), CPU))


def generated(path: str, prompt: str, tokens: int) -> str:
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = character_tokenizer()
    ids = tokenizer(f"u:{prompt}\na:", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def test_answers_together_are_those_of_generate_alone(path: str, desk: Desk) -> None:
    for prompt in PROMPTS:
        assert desk.admit(prompt, greedy(prompt, 10))
    desk.run()
    assert [desk.done[prompt].text for prompt in PROMPTS] == [generated(path, prompt, 10) for prompt in PROMPTS]


def test_a_seeded_answer_does_not_depend_on_company_that_comes_and_goes(desk: Desk) -> None:
    seeded = TextRequest(prompt=PROMPTS[1], temperature=0.8, seed=3, max_tokens=8)
    alone = desk.alone("alone", seeded).text
    for name in ("first", "second"):
        assert desk.admit(name, greedy(PROMPTS[2], 20))
    desk.step()
    assert desk.admit("seeded", seeded)
    desk.step()
    desk.engine.cancel(TaskId("first"))
    desk.run()
    assert desk.done["seeded"].text == alone


@pytest.mark.parametrize("seed", range(2))
def test_together_equals_alone_while_others_come_leave_and_are_cancelled(desk: Desk, seed: int) -> None:
    choice = random.Random(seed)
    requests = {
        f"{seed}-{i}": greedy(
            "".join(choice.choices("abc xyz", k=choice.randrange(1, 30))) + "!", choice.randrange(2, 14)
        )
        for i in range(8)
    }
    waiting, cancelled = list(requests), f"{seed}-{choice.randrange(8)}"
    while waiting or desk.engine.seated:
        while waiting and choice.random() < 0.5 and desk.admit(waiting[0], requests[waiting[0]]):
            waiting.pop(0)
        if desk.engine.seated:
            desk.step(choice.choice([None, None, 1e-9]))
        if cancelled not in waiting and choice.random() < 0.3:
            desk.engine.cancel(TaskId(cancelled))
    together = {name: desk.done[name] for name in requests if name in desk.done}
    assert set(requests) - {cancelled} <= set(together)
    for name, result in together.items():
        assert desk.alone(f"alone-{name}", requests[name]) == result


def module_of(desk: Desk) -> Any:  # a model of transformers
    assert isinstance(desk.engine, TextEngine)
    return desk.engine._model.module


@torch.inference_mode()
def test_logits_of_stacked_rows_are_those_of_a_full_forward(desk: Desk) -> None:
    """Of lengths that cross the window of those that have one at different steps."""
    module = module_of(desk)
    starts, sequence = (4, 13, 7), [(7 * i) % 90 + 1 for i in range(40)]
    expected = module(input_ids=torch.tensor([sequence]), use_cache=False).logits[0]
    pool = OwnCaches(module, len(starts), 96, are_stacked=True)
    for slot, start in enumerate(starts):
        pool.forward(sequence[:start], [Chunk(slot, 0, start)], [start - 1])
    for i in range(20):
        chunks = [Chunk(slot, start + i, 1) for slot, start in enumerate(starts)]
        found = pool.forward([sequence[chunk.start] for chunk in chunks], chunks, range(len(chunks)))
        for chunk, logits in zip(chunks, found, strict=True):
            torch.testing.assert_close(logits, expected[chunk.start], atol=1e-4, rtol=1e-4)


def test_rows_that_decode_share_one_forward(desk: Desk) -> None:
    calls: list[int] = []
    hook = module_of(desk).register_forward_hook(lambda _module, _args, output: calls.append(len(output.logits)))
    for prompt in PROMPTS:
        desk.admit(prompt, greedy(prompt, 12))
    desk.run()
    hook.remove()
    assert max(calls) == len(PROMPTS)
    assert sum(calls) == sum(desk.usage[prompt].output_tokens for prompt in PROMPTS), "each token once"


def test_several_answers_branch_from_one_prompt(desk: Desk) -> None:
    result = desk.alone("several", TextRequest(prompt=PROMPTS[0], temperature=1.0, seed=5, max_tokens=6, n=2))
    single = desk.alone("single", TextRequest(prompt=PROMPTS[0], temperature=1.0, seed=5, max_tokens=6))
    assert len(result.more) == 1
    assert result.text == single.text


BLOOM = {"n_layer": 2, "n_head": 4}


def test_the_way_that_a_model_takes_is_logged_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(tmp_path, transformers.BloomConfig(**{**small(), **BLOOM}))
    with caplog.at_level(logging.WARNING, "node.engines.text.model"):
        engine = load(spec_of(folder, context_tokens=64), CPU)
    assert (
        "its attention cannot be replaced; it runs through its own cache, prompts one by one and decoding"
        in caplog.text
    )
    assert engine.held_bytes() > 0


def test_a_model_that_computes_otherwise_from_stacked_caches_runs_row_by_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not look at which tokens are there only to fill up."""
    from transformers.models.bloom.modeling_bloom import BloomModel

    honest = BloomModel.forward
    monkeypatch.setattr(BloomModel, "forward", lambda *args, **kw: honest(*args, **{**kw, "attention_mask": None}))
    folder = save(tmp_path, transformers.BloomConfig(**{**small(), **BLOOM}))
    with caplog.at_level(logging.INFO, "node.engines.text.model"):
        desk = Desk(load(spec_of(folder, context_tokens=64), CPU))
    assert "its logits through stacked caches differ" in caplog.text
    assert "it runs row by row" in caplog.text
    for prompt in PROMPTS[:2]:
        assert desk.admit(prompt, greedy(prompt, 6))
    desk.run()
    assert [desk.done[prompt].text for prompt in PROMPTS[:2]] == [
        generated(folder, prompt, 6) for prompt in PROMPTS[:2]
    ]
