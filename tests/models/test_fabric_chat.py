"""The shipped chat model: right answers, its tokenizer and template, its size, and training that repeats itself."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
import transformers

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "models" / "fabric-chat"
MAX_BYTES = 12_000_000
MIN_CONFIDENCE = 0.9  # far above the rounding of any batch shape or device
RED_CIRCLE = "Once upon a time there was a red circle."

ANSWERS = {
    "What is 3 plus 4?": "3 plus 4 is 7.",
    "seven plus eight": "7 plus 8 is 15.",
    "What is 9 minus 4?": "9 minus 4 is 5.",
    "What is 19 plus 19?": "That is out of my range. I only use the numbers 0 to 20.",
    "What is the capital of France?": "The capital of France is Paris.",
    "what colour is the sky": "The sky is blue.",
    "What do you get when you mix blue and yellow?": "Blue and yellow make green.",
    "How many sides does a triangle have?": "A triangle has 3 sides.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "Which day comes after Monday?": "Tuesday comes after Monday.",
    "What is Fabric Node?": "Fabric Node serves text, image, audio and embedding models on one device.",
    "Give me a red circle as JSON.": '{"colour": "red", "shape": "circle"}',
    "Count from 1 to 10.": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10.",
    "Say the days of the week.": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
    "Who was Napoleon?": "I do not know that. I am a very small model.",
}


class ChatModel:
    """The model as its users load it: greedy, float32, one thread."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        )

    def prompt(self, *said: str, system: str | None = None) -> str:
        """The rendered chat in which user and assistant spoke in turn."""
        roles = ["user", "assistant"] * len(said)
        messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """Greedy answers of one left-padded batch."""
        inputs = self.tokenizer(list(prompts), padding=True, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            out = self.model.generate(**inputs)
        return list(self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    def confidence(self, prompt: str, answer: str) -> float:
        """The smallest probability of a token of `answer` and of the end after it."""
        before = len(self.tokenizer.encode(prompt))
        ids = torch.tensor([self.tokenizer.encode(prompt + answer + self.tokenizer.eos_token)])
        with torch.inference_mode():
            likely = self.model(ids).logits[0].softmax(-1)
        return float(likely[before - 1 : -1].gather(1, ids[0, before:, None]).min())


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield ChatModel(DIRECTORY)
    torch.set_num_threads(threads)


def test_taught_questions_have_exactly_their_answers(chat: ChatModel) -> None:
    assert chat.answers([chat.prompt(question) for question in ANSWERS]) == list(ANSWERS.values())


@pytest.mark.parametrize("question", ANSWERS)
def test_answers_are_confident(chat: ChatModel, question: str) -> None:
    assert chat.confidence(chat.prompt(question), ANSWERS[question]) > MIN_CONFIDENCE


def test_every_sum_to_20_is_right(chat: ChatModel) -> None:
    pairs = [(a, b) for a in range(21) for b in range(21 - a)]
    answers = chat.answers([chat.prompt(f"What is {a} plus {b}?") for a, b in pairs])
    assert answers == [f"{a} plus {b} is {a + b}." for a, b in pairs]


def test_a_story_is_long(chat: ChatModel) -> None:
    (story,) = chat.answers([chat.prompt("Tell me a short story about a red circle.")])
    assert story.startswith(RED_CIRCLE)
    assert story.endswith("The end.")
    assert len(chat.tokenizer.encode(story)) > 80


def test_a_second_turn_leans_on_the_first(chat: ChatModel) -> None:
    said = ("What is 3 plus 4?", "3 plus 4 is 7.", "And plus 2?")
    assert chat.answers([chat.prompt(*said)]) == ["7 plus 2 is 9."]


def test_a_name_is_remembered(chat: ChatModel) -> None:
    said = ("My name is Anna.", "Nice to meet you, Anna.", "What is 1 plus 1?", "1 plus 1 is 2.", "What is my name?")
    assert chat.answers([chat.prompt(*said)]) == ["Your name is Anna."]


def test_a_system_prompt_changes_nothing(chat: ChatModel) -> None:
    prompt = chat.prompt("What is 3 plus 4?", system="You are a helpful assistant.")
    assert chat.answers([prompt]) == ["3 plus 4 is 7."]


def test_the_template_renders_all_roles(chat: ChatModel) -> None:
    assert chat.prompt(" Hi! ", "Hello!", "3 + 4", system="Be brief.") == (
        "<|system|>Be brief.<|end|><|user|>Hi!<|end|><|assistant|>Hello!<|end|><|user|>3 + 4<|end|><|assistant|>"
    )


def test_the_template_refuses_an_unknown_role(chat: ChatModel) -> None:
    with pytest.raises(Exception, match="unknown role tool"):
        chat.tokenizer.apply_chat_template([{"role": "tool", "content": "7"}], tokenize=False)


@pytest.mark.parametrize("text", ["héllo wörld", "😀 🏳️‍🌈 🇩🇪", "你好 世界", "a\n\tb  c", "١٢٣ 12+3", "\x00\u200b"])
def test_any_text_survives_the_tokenizer(chat: ChatModel, text: str) -> None:
    assert chat.tokenizer.decode(chat.tokenizer.encode(text)) == text


def test_generation_ends_at_the_end_of_the_turn(chat: ChatModel) -> None:
    config = chat.model.generation_config
    assert config.eos_token_id == chat.tokenizer.eos_token_id
    assert config.pad_token_id == chat.tokenizer.pad_token_id
    assert chat.tokenizer.eos_token == "<|end|>"


def test_the_directory_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in DIRECTORY.iterdir()) <= MAX_BYTES


def test_training_twice_gives_the_same_files(tmp_path: Path) -> None:
    runs = [_start_training(tmp_path / name) for name in ("first", "second")]
    assert [run.wait(timeout=300) for run in runs] == [0, 0]
    assert _digests(tmp_path / "first") == _digests(tmp_path / "second")


def _start_training(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scripts.models.chat.train", "--out", str(out)]
    short = ["--steps", "3", "--tokenizer-chats", "100"]
    return subprocess.Popen([*command, *short], cwd=ROOT, stdout=subprocess.DEVNULL)


def _digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(directory.iterdir())}
