"""Chats as padded tensors of token ids and labels."""

from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from scripts.models.chat.chats import Course, any_chat
from scripts.models.chat.tokenizer import encode

POOL_CHATS = 1_024  # chats sorted by length before they are cut into batches
BATCH_TOKENS = 1_024  # with padding
NOT_TRAINED = -100  # what cross_entropy ignores


def batches(course: Course, tokenizer: PreTrainedTokenizerFast, rng: Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless right-padded (ids, labels), both (chats, tokens); label NOT_TRAINED is not trained."""
    while True:
        pool = sorted(
            (encode(any_chat(course, rng), tokenizer) for _ in range(POOL_CHATS)), key=lambda row: len(row[0])
        )
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for row in pool:
            if (len(groups[-1]) + 1) * len(row[0]) > BATCH_TOKENS and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (padded(group, tokenizer.pad_token_id) for group in groups)


def padded(rows: list[tuple[list[int], list[bool]]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), NOT_TRAINED)
    for place, (tokens, is_said) in enumerate(rows):
        row = torch.tensor(tokens)
        ids[place, : len(tokens)] = row
        labels[place, : len(tokens)] = torch.where(torch.tensor(is_said), row, NOT_TRAINED)
    return ids, labels
