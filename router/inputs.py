"""What `input` and `params` of each modality may hold: wire.md's table, as strict models ("5" is no number).

They know every field, so one answer names all that is wrong, and the API's OpenAPI document is made of them too. Not
about the job around them (api/) nor about what a task is made of (tasks.py).
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from protos.types import Blob, ImageScheduler
from router.formats import AskedFormat

MAX_TEXTS: Final = 2048  # of one embedding request, as OpenAI's API has it
MAX_ANSWERS: Final = 16  # to one prompt; a model may have fewer seats
MAX_LOGPROBS: Final = 20  # likeliest tokens in the place of each, as OpenAI's API has it
MAX_SEED: Final = 2**63 - 1  # fits the uint64 of gRPC and the int64 of torch's generators


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _has_words(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("empty", "is empty: there is nothing to embed, leave it out")
    return text


# ---- where the file of an input is ----


@dataclass(frozen=True, slots=True)
class Inline:
    """In the request itself, as base64."""

    blob: Blob


@dataclass(frozen=True, slots=True)
class Stored:
    """In an asset of the organization."""

    asset_id: str


@dataclass(frozen=True, slots=True)
class Remote:
    """Behind a URL that the router fetches when the file is needed."""

    url: str


Source: TypeAlias = Inline | Stored | Remote


def _inline(value: object) -> Inline | None:
    return None if value is None else Inline(_decoded(_checked_string(value)))


def _stored(value: object) -> Stored | None:
    return None if value is None else Stored(_checked_string(value))


def _remote(value: object) -> Remote | None:
    return None if value is None else Remote(_checked_string(value))


def _any_source(value: object) -> Source | None:
    """No two can be mistaken for each other: base64 has neither `_` nor `:`."""
    text = "" if value is None else _checked_string(value)
    if text.startswith("asset_"):
        return Stored(text)
    return Remote(text) if text.startswith(("http://", "https://")) else _inline(value)


InlineFile = Annotated[Inline | None, PlainValidator(_inline, json_schema_input_type=str | None)]
StoredFile = Annotated[Stored | None, PlainValidator(_stored, json_schema_input_type=str | None)]
RemoteFile = Annotated[Remote | None, PlainValidator(_remote, json_schema_input_type=str | None)]
AnyFile = Annotated[Source | None, PlainValidator(_any_source, json_schema_input_type=str | None)]

Words = Annotated[str, AfterValidator(_has_words)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Unit = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]  # latents are eighths of the picture


# ---- input ----


class ChatMessage(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class TextInput(_Strict):
    """A prompt to continue, or messages to answer."""

    prompt: str | None = Field(default=None, min_length=1)
    messages: list[ChatMessage] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_source(self) -> "TextInput":
        _exactly_one(self, "prompt", "messages")
        return self


class ImageInput(_Strict):
    """What to draw; with a picture to start from it."""

    prompt: str = Field(min_length=1)
    negative_prompt: str = ""
    image: AnyFile = Field(default=None, description="base64, a data URL, the id of an asset, or an http(s) URL")


class AudioInput(_Strict):
    """The sound to transcribe."""

    audio: InlineFile = Field(default=None, description="base64, or a data URL")
    audio_url: RemoteFile = Field(default=None, description="http(s), fetched when the job is sent")
    asset_id: StoredFile = Field(default=None, description="of an asset")

    @model_validator(mode="after")
    def _one_source(self) -> "AudioInput":
        _exactly_one(self, "audio", "audio_url", "asset_id")
        return self

    @property
    def source(self) -> Source:
        found = self.audio or self.audio_url or self.asset_id
        assert found is not None, "an AudioInput without a source was validated: this is a bug"
        return found


class EmbeddingInput(_Strict):
    """One text, or several; `input` is another name for `texts`."""

    text: Words | None = None
    texts: list[Words] | None = Field(default=None, min_length=1, max_length=MAX_TEXTS)
    input: list[Words] | None = Field(default=None, min_length=1, max_length=MAX_TEXTS)

    @field_validator("input", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> "EmbeddingInput":
        _exactly_one(self, "text", "texts", "input")
        return self


# ---- params; a field left out has the request's own default ----


class TextParams(_Strict):
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    min_p: Unit | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    stop: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, max_length=16)
    seed: Seed | None = None
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: Penalty | None = Field(default=None, description="for each time that the answer has the token")
    presence_penalty: Penalty | None = Field(default=None, description="once, when the answer has the token")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MAX_LOGPROBS,
        description="of each token, and of so many that were likeliest in its place",
    )
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS, description="answers to the one prompt")
    response_format: AskedFormat | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class ImageParams(_Strict):
    width: Pixels | None = None
    height: Pixels | None = None
    steps: int | None = Field(default=None, ge=1, le=500)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    strength: Unit | None = None
    seed: Seed | None = None
    n: int | None = Field(default=None, ge=1, le=16)
    scheduler: ImageScheduler | None = Field(
        default=None, description="the model's own when left out; models that match flows take flow_euler alone"
    )
    preview_every: int | None = Field(
        default=None,
        ge=1,
        le=500,
        description="steps between two small previews, sent as output to those who follow; without it none are made",
    )


class AudioParams(_Strict):
    language: str | None = Field(default=None, pattern="^([a-z]{2,3}|auto)$")
    task: Literal["transcribe", "translate"] | None = None
    word_timestamps: bool | None = None
    prompt: str | None = None
    vad: bool | None = None
    temperature: Unit | None = None
    subtitles: Literal["srt", "vtt"] | None = Field(
        default=None, description="the output has them, as text, beside the segments"
    )

    @field_validator("language")
    @classmethod
    def _auto_is_empty(cls, value: str | None) -> str | None:
        return "" if value == "auto" else value


class EmbeddingParams(_Strict):
    dimensions: int | None = Field(default=None, ge=1, le=2**16)
    normalize: bool | None = None
    prompt_name: str | None = None


# ---- what is wrong, in the caller's words ----


def named_errors(root: str, error: ValidationError) -> Iterator[tuple[str, str]]:
    """(path, message) of each wrong field: ("input.texts[1]", "is empty: ...")."""
    for detail in error.errors(include_url=False):
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"])
        yield root + "".join(steps), _message(detail)


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here: check the spelling, or leave it out"
        case "empty" | "unsupported" | "sources" | "base64":
            return detail["msg"]
        case _:
            message = _SUBJECT.sub("", detail["msg"]).replace(" after validation", "")
            return f"{message}, got {_shown(detail['input'])}"


_SUBJECT: Final = re.compile(r"^(Input|String|List|Dictionary) (?=should )")  # the path says what


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _exactly_one(model: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        has = "both of " + " and ".join(given) if given else "none"
        raise PydanticCustomError(
            "sources", "needs exactly one of {names}, it has {has}", {"names": ", ".join(names), "has": has}
        )


def _checked_string(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    return value


def _decoded(value: str) -> Blob:
    try:
        blob = blob_of(value)
    except (binascii.Error, ValueError) as exc:
        raise PydanticCustomError("base64", "is not base64: {why}", {"why": str(exc)}) from exc
    if not blob.data:
        raise PydanticCustomError("base64", "is empty: send the bytes of a file as base64")
    return blob


def blob_of(value: str) -> Blob:
    """Base64, plain or as a data URL: `data:audio/wav;base64,...`."""
    if not value.startswith("data:"):
        return Blob(base64.b64decode(value, validate=True))
    head, _, body = value.partition(",")
    content_type = head.removeprefix("data:").split(";")[0]
    return Blob(base64.b64decode(body, validate=True), content_type or "application/octet-stream")
