"""The text of each token of a model, as bytes, for what looks at single tokens: log probabilities and formats.

Read with the model, not at the first request that needs it: of 150,000 tokens that takes a second in which no other thread
of the node runs, and llguidance can neither do it in parts nor read what another process has done.
"""

from collections.abc import Set
from typing import Any

from llguidance import LLTokenizer

from protos.errors import InputInvalid


class Vocabulary:
    """Of one model. Any thread."""

    def __init__(self, tokenizer: Any, size: int, end_tokens: Set[int]) -> None:  # a fast tokenizer of transformers
        """size: how many logits the model gives, of which its tokenizer may know fewer."""
        self._tokens: LLTokenizer | None = None
        self._error = ""
        try:
            # Not llguidance.hf.from_tokenizer: it copies the tokenizer first, a fifth of all the time of 150,000 tokens.
            backend = tokenizer.backend_tokenizer
            backend.no_padding()
            backend.no_truncation()
            end = sorted(end_tokens) or tokenizer.eos_token_id
            self._tokens = LLTokenizer(backend.to_str(), n_vocab=size, eos_token=end)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the model serves the requests that do not need it
            self._error = str(exc)

    def tokens(self, field: str) -> LLTokenizer:
        """Raises InputInvalid for `field` where the tokenizer's tokens have no bytes of their own."""
        if self._tokens is None:
            raise InputInvalid.at(
                field, f"cannot be served by this model, whose tokenizer does not say its tokens' bytes: {self._error}"
            )
        return self._tokens

    def spell(self, token: int) -> bytes:
        """The bytes of a token; they may end within a character. Only where `tokens` gives any."""
        assert self._tokens is not None, "a token was spelled that has no bytes: this is a bug"
        return self._tokens.decode_bytes([token])
