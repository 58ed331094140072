"""The text of each token of a model, as bytes, for what looks at single tokens: log probabilities and formats.

Read when the first request needs it: that takes up to a second of a large vocabulary, and most requests need none.
"""

import threading
from collections.abc import Set
from typing import Any

from llguidance import LLTokenizer
from llguidance.hf import from_tokenizer

from protos.errors import InputInvalid


class Vocabulary:
    """Of one model. Any thread."""

    def __init__(self, tokenizer: Any, size: int, end_tokens: Set[int]) -> None:  # a fast tokenizer of transformers
        """size: how many logits the model gives, of which its tokenizer may know fewer."""
        self._tokenizer, self._size, self._end_tokens = tokenizer, size, sorted(end_tokens)
        self._lock = threading.Lock()
        self._tokens: LLTokenizer | None = None

    def tokens(self, field: str) -> LLTokenizer:
        """Raises InputInvalid for `field` where the tokenizer's tokens have no bytes of their own."""
        with self._lock:
            if self._tokens is None:
                try:
                    self._tokens = from_tokenizer(self._tokenizer, self._size, self._end_tokens or None)
                except ValueError as exc:
                    raise InputInvalid.at(
                        field, f"cannot be served by this model, whose tokenizer does not say its tokens' bytes: {exc}"
                    ) from exc
            return self._tokens

    def spell(self, token: int) -> bytes:
        """The bytes of a token; they may end within a character. Only after `tokens`."""
        assert self._tokens is not None, "a token was spelled before the vocabulary was read: this is a bug"
        return self._tokens.decode_bytes([token])
