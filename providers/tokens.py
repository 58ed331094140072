"""How many tokens a text is, without its model's tokenizer: an expectation, and a bound that no text exceeds. Pure.

For what is said before a call; what was used is what the vendor reports.
"""

import re
import string
from collections.abc import Sequence
from math import ceil
from typing import Final

# What byte-level BPE tokenizers cut a text into before they merge: a word with the space before it, up to three digits, a
# run of punctuation, a run of spaces. Source: the split pattern of tiktoken's cl100k_base.
_PIECES: Final = re.compile(r"[^\S\n]?[^\W\d_]+|\d{1,3}|[^\S\n]?[^\w\s]+|_+|\s+")
_WORD_BYTES: Final = 9  # up to here an English word is mostly one token
_LONG_WORD: Final = b"a" * (_WORD_BYTES + 1)
_FOREIGN_BYTES: Final = 3  # of a letter outside ASCII: about a token each in Chinese, fewer in Cyrillic
# About the same in texts of ASCII alone, counted in a third of the time: one kind of character stays, the rest are spaces.
_WORDS, _DIGITS, _MARKS = (
    bytes(ord(mark) if chr(byte) in kind else ord(" ") for byte in range(256))
    for mark, kind in (("a", string.ascii_letters), ("0", string.digits), (".", string.punctuation.replace("_", "")))
)
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
        sampled = " ".join([text[start : start + _SAMPLE_CHARS] for start in range(step // 2, len(text), step)])
        return _counted(sampled) * len(text) // len(sampled)
    return _counted(text)


def _counted(text: str) -> int:
    return _ascii_counted(text.encode()) if text.isascii() else sum(map(_piece_tokens, _PIECES.findall(text)))


def _ascii_counted(text: bytes) -> int:
    words, digits = text.translate(_WORDS), text.translate(_DIGITS)
    runs = len(words.split()) + len(digits.split()) + len(text.translate(_MARKS).split())
    return runs + words.count(_LONG_WORD) + digits.count(b"0000") + text.count(b"\n")


def _piece_tokens(piece: str) -> int:
    return ceil(len(piece) / _WORD_BYTES) if piece.isascii() else ceil(len(piece.encode()) / _FOREIGN_BYTES)
