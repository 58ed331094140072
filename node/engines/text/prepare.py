"""A text request, checked and turned into tokens. Runs on many threads at a time and changes nothing.

Not about how tokens are chosen (sampler.py) nor about the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError

from node.engines.text.formats import Format, Formats
from node.engines.text.logprobs import MAX_TOP, Spell
from node.engines.text.sampler import Sampling
from node.engines.text.vocabulary import Vocabulary
from protos.errors import InputInvalid
from protos.types import DEFAULT_MAX_TOKENS, Message, TextRequest

ROLES: Final = ("system", "user", "assistant")
MAX_STOPS: Final = 16  # strings; each is searched for in every piece of text
MAX_STOP_CHARACTERS: Final = 256  # of one; as many may be held back from the stream

_Errors = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TextPayload:
    """A text request as the engine runs it."""

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    stops: tuple[str, ...]
    seed: int | None
    answers: int = 1
    logprobs: int | None = None  # wanted, beside the chosen token's; None: not even that
    spell: Spell | None = None  # there when log probabilities are wanted
    format: Format | None = None


class Reader:
    """Reads requests for one model: its tokenizer, its chat template, its context, its seats."""

    def __init__(  # a fast tokenizer of transformers
        self, tokenizer: Any, vocabulary: Vocabulary, *, context_tokens: int, seats: int
    ) -> None:
        self._template = tokenizer.apply_chat_template if tokenizer.chat_template else None
        # The backend alone encodes without touching padding or truncation state, so threads can share it.
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._vocabulary, self._formats = vocabulary, Formats(vocabulary)
        self.context_tokens, self._seats = context_tokens, seats

    def read(self, request: TextRequest) -> TextPayload:
        """Raises InputInvalid that names every wrong field."""
        errors = [
            *_input_errors(request),
            *_sampling_errors(request),
            *_stop_errors(request),
            *_answer_errors(request, self._seats),
        ]
        if errors:
            raise InputInvalid.of(errors)
        prompt = self._tokens(request)
        return TextPayload(
            prompt,
            _sampling(request),
            self._max_tokens(request, len(prompt)),
            tuple(request.stop),
            request.seed,
            request.n,
            request.logprobs,
            self._spell() if request.logprobs is not None else None,
            self._formats.compiled(request.response_format) if request.response_format is not None else None,
        )

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def _spell(self) -> Spell:
        self._vocabulary.tokens("logprobs")
        return self._vocabulary.spell

    def _tokens(self, request: TextRequest) -> tuple[int, ...]:
        messages = request.messages if request.prompt is None else (Message("user", request.prompt),)
        field = "messages" if request.prompt is None else "prompt"
        if self._template is not None:
            return self._encode(self._render(messages, field), has_special_tokens=True, field=field)
        if request.prompt is None:
            raise InputInvalid.at("messages", "the model has no chat template: send its text as `prompt`")
        return self._encode(request.prompt, has_special_tokens=False, field=field)

    def _render(self, messages: Sequence[Message], field: str) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template(conversation, tokenize=False, add_generation_prompt=True)
        except TemplateError as exc:
            raise InputInvalid.at(field, f"the model's chat template refuses the conversation: {exc}") from exc

    def _encode(self, text: str, *, has_special_tokens: bool, field: str) -> tuple[int, ...]:
        ids = tuple(self._backend.encode(text, add_special_tokens=not has_special_tokens).ids)
        if not ids:
            raise InputInvalid.at(field, f"{text[:40]!r} holds no token that the model knows: send some text")
        if len(ids) >= self.context_tokens:
            raise InputInvalid.at(
                field,
                f"is {len(ids)} tokens long and the model's context is {self.context_tokens} for the prompt and the "
                f"answer together: send at most {self.context_tokens - 1} tokens",
            )
        return ids

    def _max_tokens(self, request: TextRequest, prompt_tokens: int) -> int:
        left = self.context_tokens - prompt_tokens
        if request.max_tokens is None:
            return min(DEFAULT_MAX_TOKENS, left)
        if request.max_tokens > left:
            raise InputInvalid.at(
                "max_tokens",
                f"{request.max_tokens} does not fit: the prompt takes {prompt_tokens} of the {self.context_tokens} "
                f"tokens of the model's context, which leaves {left}",
            )
        return request.max_tokens


def _sampling(request: TextRequest) -> Sampling:
    return Sampling(
        repetition_penalty=request.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
    )


def _input_errors(request: TextRequest) -> _Errors:
    if request.prompt is not None and request.messages:
        return [("prompt", "is given beside `messages`: send one of the two")]
    if request.prompt is not None:
        return [] if request.prompt.strip() else [("prompt", "is empty: send some text")]
    if not request.messages:
        return [("prompt", "is missing, and so is `messages`: send one of the two")]
    return [error for index, message in enumerate(request.messages) for error in _message_errors(index, message)]


def _message_errors(index: int, message: Message) -> _Errors:
    errors: _Errors = []
    if message.role not in ROLES:
        errors.append((f"messages[{index}].role", f"{message.role!r} is unknown: use one of {', '.join(ROLES)}"))
    if not message.content.strip():
        errors.append((f"messages[{index}].content", "is empty: send some text or leave the message out"))
    return errors


def _sampling_errors(request: TextRequest) -> _Errors:
    checks = (
        ("temperature", request.temperature, "a number of at least 0", math.isfinite(request.temperature) and request.temperature >= 0),
        ("top_p", request.top_p, "above 0 and at most 1", 0 < request.top_p <= 1),
        ("top_k", request.top_k, "at least 0 (0 is off)", request.top_k >= 0),
        ("min_p", request.min_p, "from 0 to 1", 0 <= request.min_p <= 1),
        ("repetition_penalty", request.repetition_penalty, "a number above 0", math.isfinite(request.repetition_penalty) and request.repetition_penalty > 0),
        ("frequency_penalty", request.frequency_penalty, "from -2 to 2", -2 <= request.frequency_penalty <= 2),
        ("presence_penalty", request.presence_penalty, "from -2 to 2", -2 <= request.presence_penalty <= 2),
        ("logprobs", request.logprobs, f"from 0 to {MAX_TOP}", request.logprobs is None or 0 <= request.logprobs <= MAX_TOP),
        ("max_tokens", request.max_tokens, "at least 1", request.max_tokens is None or request.max_tokens >= 1),
    )  # fmt: skip
    return [(field, f"must be {bound}, got {value}") for field, value, bound, is_fine in checks if not is_fine]


def _answer_errors(request: TextRequest, seats: int) -> _Errors:
    if request.n < 1:
        return [("n", f"must be at least 1, got {request.n}")]
    if request.n > seats:
        return [("n", f"is {request.n}, and the model has {seats} seats, one for each answer: ask for at most {seats}")]
    return []


def _stop_errors(request: TextRequest) -> _Errors:
    if len(request.stop) > MAX_STOPS:
        return [("stop", f"has {len(request.stop)} strings: send at most {MAX_STOPS}")]
    errors: _Errors = []
    for index, stop in enumerate(request.stop):
        if not stop:
            errors.append((f"stop[{index}]", "is empty: leave it out"))
        elif len(stop) > MAX_STOP_CHARACTERS:
            errors.append((f"stop[{index}]", f"has {len(stop)} characters: send at most {MAX_STOP_CHARACTERS}"))
    return errors
