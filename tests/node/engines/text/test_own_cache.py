"""Models that cannot take the packed attention answer as their generate does, whoever else is there."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import CPU, Desk, character_tokenizer, greedy, save, small, spec_of

from node.engines.text import load
from protos.types import TaskId, TextRequest

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "falcon": ("FalconConfig", {}),
    "mamba": ("MambaConfig", {"state_size": 8}),
    "gemma2, which caps its attention scores": (
        "Gemma2Config",
        {"num_key_value_heads": 2, "query_pre_attn_scalar": 8, "sliding_window": 16, "head_dim": 8},
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


def test_several_answers_branch_from_one_prompt(desk: Desk) -> None:
    result = desk.alone("several", TextRequest(prompt=PROMPTS[0], temperature=1.0, seed=5, max_tokens=6, n=2))
    single = desk.alone("single", TextRequest(prompt=PROMPTS[0], temperature=1.0, seed=5, max_tokens=6))
    assert len(result.more) == 1
    assert result.text == single.text


def test_the_way_that_a_model_takes_is_logged_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(tmp_path, transformers.BloomConfig(**{**small(), "n_layer": 2, "n_head": 4}))
    with caplog.at_level(logging.WARNING, "node.engines.text.model"):
        load(spec_of(folder, context_tokens=64), CPU)
    assert "its attention cannot be replaced; it runs row by row" in caplog.text
    assert load(spec_of(folder, context_tokens=64), CPU).held_bytes() > 0
