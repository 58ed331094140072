"""How text is asked for in the dialect: the fields that chats and completions share, and the request they come to."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from protos.types import Message, TextRequest
from router.api.openai.dialect import Body
from router.formats import AskedFormat
from router.inputs import MAX_ANSWERS, Penalty

_Strings = list[Annotated[str, Field(min_length=1)]]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = False  # against listeners who count bytes: nothing is padded here


class TextBody(Body):
    """Ranges are those of the jobs API (router/inputs.py); temperature is OpenAI's 1.0 where it is left out."""

    NEUTRAL: ClassVar[Mapping[str, object]] = {
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "functions": [],
        "parallel_tool_calls": True,
        "modalities": ["text"],
        "best_of": 1,
        "echo": False,
        "suffix": "",
        "verbosity": "medium",
    }

    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1, description="not OpenAI's; others have it so")
    min_p: float | None = Field(default=None, ge=0, le=1, description="not OpenAI's; others have it so")
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="not OpenAI's")
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    response_format: AskedFormat | None = Field(default=None, description="regex and grammar are not OpenAI's")
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    stop: str | _Strings | None = None
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def tokens_limit(self) -> int | None:
        return self.max_tokens

    @property
    def logprobs_wanted(self) -> int | None:
        """Beside each token's own; None: not even that."""
        raise NotImplementedError("a body of text says how it asks for log probabilities: this is a bug")

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def request(self, prompt: str | None, messages: Sequence[Message]) -> TextRequest:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "response_format": self.response_format.asked() if self.response_format is not None else None,
            "logprobs": self.logprobs_wanted,
            "n": self.n,
            "max_tokens": self.tokens_limit,
            "stop": None if stop is None else tuple(stop),
            "seed": self.seed,
        }
        set_ = {name: value for name, value in given.items() if value is not None}
        return TextRequest(prompt=prompt, messages=tuple(messages), **set_)  # type: ignore[arg-type]  # each of its field
