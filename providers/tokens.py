"""How many tokens a text is, without its model's tokenizer: an expectation, and a bound that no text exceeds. Pure.

For what is said before a call; what was used is what the vendor reports.
"""

import re
from collections.abc import Sequence
from math import ceil
from typing import Final

# What byte-level BPE tokenizers cut a text into before they merge: a word with the space before it, up to three digits, a
# run of punctuation, a run of spaces. Source: the split pattern of tiktoken's cl100k_base.
_PIECES: Final = re.compile(r"[^\S\n]?[^\W\d_]+|\d{1,3}|[^\S\n]?[^\w\s]+|_+|\s+")
_WORD_BYTES: Final = 9  # up to here an English word is mostly one token
_FOREIGN_BYTES: Final = 3  # of a letter outside ASCII: about a token each in Chinese, fewer in Cyrillic
# The same in texts of ASCII alone, found in half the time.
_ASCII_PIECES: Final = re.compile(r" ?[A-Za-z]+|[0-9]{1,3}| ?[^\w\s]+|_+|\s+", re.ASCII)
# A long text is judged by samples spread over it: to look through all of a book takes longer than to route it.
_SAMPLES: Final = 4
_SAMPLE_CHARS: Final = 128
_MESSAGE_TOKENS: Final = 8  # around a message, in the templates of all vendors here


def expected_tokens(texts: Sequence[str]) -> int:
    """Of the texts alone: within about a fifth on prose and code."""
    return sum(_text_tokens(text) for text in texts)


def most_tokens(texts: Sequence[str]) -> int:
    """No tokenizer makes more: each token of a byte-level one is at least a byte. With the template around each text."""
    return sum(len(text.encode()) + _MESSAGE_TOKENS for text in texts)


def _text_tokens(text: str) -> int:
    if len(text) > 2 * _SAMPLES * _SAMPLE_CHARS:
        step = len(text) // _SAMPLES
        samples = [text[start : start + _SAMPLE_CHARS] for start in range(step // 2, len(text), step)]
        return sum(map(_counted, samples)) * len(text) // sum(map(len, samples))
    return _counted(text)


def _counted(text: str) -> int:
    if not text.isascii():
        return sum(map(_piece_tokens, _PIECES.findall(text)))
    pieces = _ASCII_PIECES.findall(text)
    return len(pieces) + sum([(len(piece) - 1) // _WORD_BYTES for piece in pieces if len(piece) > _WORD_BYTES])


def _piece_tokens(piece: str) -> int:
    return ceil(len(piece) / _WORD_BYTES) if piece.isascii() else ceil(len(piece.encode()) / _FOREIGN_BYTES)
