"""A prompt as the tokens of one text encoder, padded to its full length. Never cut."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

Told: TypeAlias = tuple[Tensor, ...]  # what the denoiser is told, each (prompts, ...)


@dataclass(frozen=True, slots=True)
class Spelled:
    """A prompt as each text encoder of a model reads it."""

    rows: tuple[tuple[int, ...], ...]  # one an encoder
    tokens: int  # without padding, of the first encoder
    text: str


class TooLongError(ValueError):
    """The prompt has more tokens than an encoder reads."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"is {tokens} tokens long and the model reads {limit} at most: shorten it")


class Speller:
    """Spells prompts for one encoder. Safe on many threads: the backend keeps no padding state."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:  # a fast tokenizer of transformers
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._padding: int = tokenizer.pad_token_id
        self._max_tokens = max_tokens

    def spell(self, prompt: str) -> tuple[tuple[int, ...], int]:
        """The ids, (max_tokens,), and how many of them are no padding. Raises TooLongError."""
        ids = self._backend.encode(prompt).ids
        if len(ids) > self._max_tokens:
            raise TooLongError(len(ids), self._max_tokens)
        return (*ids, *[self._padding] * (self._max_tokens - len(ids))), len(ids)


def spell_for_all(spellers: Iterable[Speller], prompt: str) -> Spelled:
    """Raises TooLongError."""
    spelled = [speller.spell(prompt) for speller in spellers]
    return Spelled(tuple(ids for ids, _ in spelled), spelled[0][1], prompt)
