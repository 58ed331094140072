"""An embedding request, checked and turned into tokens. Runs on many threads at a time and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.engines.embedding.model import EmbeddingModel
from protos.errors import InputInvalid
from protos.types import EmbeddingRequest

MAX_TEXTS: Final = 2048  # of one request, as in OpenAI's API


@dataclass(frozen=True, slots=True)
class EmbeddingPayload:
    """An embedding request as the engine runs it."""

    texts: tuple[tuple[int, ...], ...]  # token ids
    dimensions: int
    is_normalized: bool


class Reader:
    """Reads requests for one model: its tokenizer, its prompts, its bounds."""

    def __init__(self, model: EmbeddingModel, tokenizer: Any) -> None:  # a fast tokenizer of transformers
        # The backend alone: it keeps no padding or truncation state between calls, so threads can share it.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._recipe = model.recipe
        self._dimensions = model.dimensions
        self.max_tokens = model.max_tokens

    def read(self, request: EmbeddingRequest) -> EmbeddingPayload:
        """Raises InputInvalid. A text longer than the model takes is an error: to cut it in silence would embed
        something that nobody asked for."""
        errors = self._errors(request)
        if errors:
            raise InputInvalid.of(errors)
        prompt = self._recipe.prompts.get(request.prompt_name or self._recipe.default_prompt or "", "")
        texts = self._encode([prompt + text for text in request.texts])
        return EmbeddingPayload(texts, request.dimensions or self._dimensions, request.normalize)

    def _encode(self, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        if self._recipe.is_lowercased:
            texts = [text.lower() for text in texts]
        encoded = tuple(tuple(one.ids) for one in self._backend.encode_batch(list(texts)))
        errors = [
            (f"texts[{index}]", f"is {len(ids)} tokens long, the model takes {self.max_tokens}: split or shorten it")
            for index, ids in enumerate(encoded)
            if len(ids) > self.max_tokens
        ]
        if errors:
            raise InputInvalid.of(errors)
        return encoded

    def _errors(self, request: EmbeddingRequest) -> list[tuple[str, str]]:
        errors: list[tuple[str, str]] = []
        if not request.texts:
            errors.append(("texts", "is empty: send at least one text"))
        if len(request.texts) > MAX_TEXTS:
            errors.append(("texts", f"has {len(request.texts)} texts: send at most {MAX_TEXTS} in one request"))
        errors += [
            (f"texts[{i}]", "is empty: leave it out") for i, text in enumerate(request.texts) if not text.strip()
        ]
        if request.dimensions is not None and not 1 <= request.dimensions <= self._dimensions:
            errors.append(("dimensions", f"must be from 1 to the model's {self._dimensions}, got {request.dimensions}"))
        if request.prompt_name and request.prompt_name not in self._recipe.prompts:
            known = ", ".join(self._recipe.prompts) or "none"
            errors.append(("prompt_name", f"{request.prompt_name!r} is unknown: the model's prompts are: {known}"))
        return errors
