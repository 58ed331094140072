"""Prints how often greedy answers are exactly right: `python -m scripts.models.chat.evaluate models/fabric-chat`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.models.chat.chats import Chat
from scripts.models.chat.exams import all_exams
from scripts.models.chat.tokenizer import encode

ROWS = 32  # chats in one forward pass
SHOWN_FAILURES = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """How one chat went: `confidence` is the smallest probability of a token of the right answer."""

    chat: Chat
    is_right: bool
    confidence: float


def mark(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[Mark]:
    """Marks the last answer of each chat.

    Greedy decoding gives the right answer exactly when each of its tokens is the likeliest after those before
    it, so one forward pass over the right answer is enough.
    """
    ordered = sorted(chats, key=lambda chat: len(encode(chat, tokenizer)[0]))
    marks: list[Mark] = []
    for start in range(0, len(ordered), ROWS):
        marks += _mark_rows(model, tokenizer, ordered[start : start + ROWS])
    return marks


def _mark_rows(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[Mark]:
    rows = [encode(chat, tokenizer) for chat in chats]
    width = max(len(ids) for ids, _ in rows)
    padded = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in rows])
    with torch.inference_mode():
        likely = model(input_ids=padded, use_cache=False).logits.softmax(-1)
    return [
        _mark_one(chat, likely[place, : len(ids)], ids, _answer_start(is_said))
        for place, (chat, (ids, is_said)) in enumerate(zip(chats, rows, strict=True))
    ]


def _mark_one(chat: Chat, likely: Tensor, ids: list[int], start: int) -> Mark:
    """likely: (tokens, vocabulary); `start`: where the last answer begins."""
    expected = torch.tensor(ids[start:])
    before = likely[start - 1 : -1]
    chances = before.gather(1, expected[:, None])
    return Mark(chat, bool((before.argmax(-1) == expected).all()), float(chances.min()))


def _answer_start(is_said: list[bool]) -> int:
    """The first token of the last run of said tokens."""
    return len(is_said) - is_said[::-1].index(False)


def main(directory: Annotated[Path, typer.Argument(help="a trained model")], show_failures: bool = False) -> None:
    """Marks every exam and prints one line for each."""
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
    print("| exam | questions | exactly right | smallest probability of a right token |\n|---|---|---|---|")
    for name, chats in all_exams().items():
        marks = mark(model, tokenizer, chats)
        wrong = [one for one in marks if not one.is_right]
        least = min((one.confidence for one in marks if one.is_right), default=0.0)
        print(f"| {name} | {len(marks)} | {100 * (1 - len(wrong) / len(marks)):.1f} % | {least:.4f} |")
        for one in wrong[: SHOWN_FAILURES if show_failures else 0]:
            print(f"    {one.chat}")


if __name__ == "__main__":
    typer.run(main)
