"""The shipped chat model through the engine: its known answers, and transformers' own, alone and 32 at once."""

from pathlib import Path

import pytest
import torch
from tiny import CPU, Desk
from transformers import AutoModelForCausalLM, AutoTokenizer

from node.engine import ModelSpec
from node.engines.text import load
from protos.types import Message, Modality, ModelId, TextRequest, TextResult

PATH = str(Path(__file__).parents[4] / "models" / "fabric-chat")
NUMBERS = [(a, b) for a in range(1, 9) for b in range(1, 5)]


@pytest.fixture(scope="module")
def chat() -> Desk:
    spec = ModelSpec(id=ModelId("fabric-chat"), engine="text", modality=Modality.TEXT, path=PATH, seats=32)
    return Desk(load(spec, CPU))


def greedy(prompt: str) -> TextRequest:
    return TextRequest(prompt=prompt, temperature=0.0, max_tokens=40)


def generated(prompt: str) -> str:
    """By transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(PATH, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(PATH, dtype=torch.float32, local_files_only=True)
    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=40)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def test_it_adds(chat: Desk) -> None:
    assert chat.alone("sum", greedy("What is 3 plus 4?")) == TextResult("3 plus 4 is 7.", "stop")


def test_32_chats_at_once_are_all_right(chat: Desk) -> None:
    for a, b in NUMBERS:
        assert chat.admit(f"{a}+{b}", greedy(f"What is {a} plus {b}?"))
    chat.run()
    for a, b in NUMBERS:
        assert chat.done[f"{a}+{b}"] == TextResult(f"{a} plus {b} is {a + b}.", "stop")


@pytest.mark.parametrize(
    "prompt", ["Count from 4 to 9.", "Tell me a short story about a red circle.", "Who was Napoleon?"]
)
def test_answers_are_those_of_transformers(chat: Desk, prompt: str) -> None:
    result = chat.alone(prompt, greedy(prompt))
    assert isinstance(result, TextResult)
    assert result.text == generated(prompt)


def test_a_conversation_is_remembered(chat: Desk) -> None:
    said = ("What is 3 plus 4?", "3 plus 4 is 7.", "And plus 2?")
    messages = [Message(role, text) for role, text in zip(("user", "assistant", "user"), said, strict=True)]
    result = chat.alone("conversation", TextRequest(messages=messages, temperature=0.0))
    assert result == TextResult("7 plus 2 is 9.", "stop")
