"""The tokenizer of the image model: CLIP's, with a vocabulary in which each word of the world is one token."""

from collections.abc import Sequence
from typing import Final

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MAX_TOKENS: Final = 32  # of a prompt, start and end included
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """Other words are spelled by their bytes, so that any text can be read."""
    letters = list(bytes_to_unicode().values())
    merges: list[tuple[str, str]] = []
    for word in words:
        merges += _merges([*word[:-1], word[-1] + "</w>"], merges)
    pieces = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {piece: place for place, piece in enumerate([*pieces, _START, _END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def _merges(parts: list[str], known: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The further merges that make one token of the parts, after the known ones have been applied."""
    for merge in known:
        parts = _applied(merge, parts)
    return [("".join(parts[:end]), parts[end]) for end in range(1, len(parts))]


def _applied(merge: tuple[str, str], parts: list[str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == merge:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
