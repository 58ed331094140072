"""The JSON of a job to a task, and a result to JSON: wire.md's table of modalities. Pure.

The models below are strict ("5" is no number) and know every field, so one answer names all that is wrong. The API's
OpenAPI document is made of them too. Not about the job around input and params (api/jobs.py).
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, TypeVar, assert_never, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from protos.errors import InputInvalid
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    EmbeddingResult,
    ImageRequest,
    ImageResult,
    Message,
    Modality,
    ModelId,
    Segment,
    Task,
    TaskId,
    TaskRequest,
    TaskResult,
    TextRequest,
    TextResult,
    Usage,
)
from router.jobs import Job, Json

MAX_TEXTS: Final = 2048  # of one embedding request, as OpenAI's API has it
MAX_SEED: Final = 2**63 - 1  # seeds cross gRPC as int64


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
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
    """What to draw; with a picture (base64) to start from it."""

    prompt: str = Field(min_length=1)
    negative_prompt: str = ""
    image: str | None = Field(default=None, description="base64, or a data URL")

    @field_validator("image")
    @classmethod
    def _decodes(cls, value: str | None) -> str | None:
        return value if value is None else _checked_base64(value)


class AudioInput(_Strict):
    """The sound to transcribe. This release takes it as base64."""

    audio: str | None = Field(default=None, description="base64, or a data URL")
    audio_url: str | None = None
    asset_id: str | None = None

    @field_validator("audio")
    @classmethod
    def _decodes(cls, value: str | None) -> str | None:
        return value if value is None else _checked_base64(value)

    @field_validator("audio_url", "asset_id")
    @classmethod
    def _is_not_here_yet(cls, value: str | None) -> str | None:
        if value is None:
            return None
        raise PydanticCustomError(
            "unsupported", "is not served by this release: send the file as base64 in input.audio"
        )

    @model_validator(mode="after")
    def _one_source(self) -> "AudioInput":
        _exactly_one(self, "audio", "audio_url", "asset_id")
        return self


class EmbeddingInput(_Strict):
    """One text, or several; `input` is another name for `texts`."""

    text: str | None = None
    texts: list[str] | None = Field(default=None, min_length=1, max_length=MAX_TEXTS)
    input: list[str] | None = Field(default=None, min_length=1, max_length=MAX_TEXTS)

    @field_validator("input", mode="before")
    @classmethod
    def _one_is_a_list_too(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("text", "texts", "input")
    @classmethod
    def _has_words(cls, value: str | list[str] | None) -> str | list[str] | None:
        texts = [value] if isinstance(value, str) else value or []
        empty = [str(index) for index, text in enumerate(texts) if not text.strip()]
        if not empty:
            return value
        if isinstance(value, str):
            raise PydanticCustomError("empty", "is empty: there is nothing to embed")
        raise PydanticCustomError(
            "empty",
            "has empty texts at index {at}: leave them out, there is nothing to embed",
            {"at": ", ".join(empty)},
        )

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


class AudioParams(_Strict):
    language: str | None = Field(default=None, pattern="^([a-z]{2,3}|auto)$")
    task: Literal["transcribe", "translate"] | None = None
    word_timestamps: bool | None = None
    prompt: str | None = None
    vad: bool | None = None
    temperature: Unit | None = None

    @field_validator("language")
    @classmethod
    def _auto_is_empty(cls, value: str | None) -> str | None:
        return "" if value == "auto" else value


class EmbeddingParams(_Strict):
    dimensions: int | None = Field(default=None, ge=1, le=2**16)
    normalize: bool | None = None
    prompt_name: str | None = None


# ---- JSON to a task ----


def task_of(job: Job) -> Task:
    """The task of a job, under the job's id: a node that runs it already joins a second call. Raises InputInvalid."""
    request = job.request
    return Task(
        id=TaskId(job.id),
        request=request_of(request.modality, request.input, request.params),
        model=ModelId(request.model) if request.model else None,
        organization_id=request.organization_id,
        priority=request.priority,
        timeout_s=request.timeout_s,
    )


def request_of(modality: Modality, input: Json, params: Json) -> TaskRequest:  # noqa: A002  # the wire's name
    """What wire.md's table makes of it. Raises InputInvalid that names every wrong field: "params.temperature"."""
    match modality:
        case Modality.TEXT:
            return _text(*_checked(TextInput, input, TextParams, params))
        case Modality.IMAGE:
            return _image(*_checked(ImageInput, input, ImageParams, params))
        case Modality.AUDIO:
            return _audio(*_checked(AudioInput, input, AudioParams, params))
        case Modality.EMBEDDING:
            return _embedding(*_checked(EmbeddingInput, input, EmbeddingParams, params))
        case _:
            assert_never(modality)


Input = TypeVar("Input", bound=BaseModel)
Params = TypeVar("Params", bound=BaseModel)


def _checked(
    input_model: type[Input],
    input: Json,  # noqa: A002  # the wire's name
    params_model: type[Params],
    params: Json,
) -> tuple[Input, Params]:
    errors: list[tuple[str, str]] = []
    checked: list[BaseModel] = []
    for name, model, value in (("input", input_model, input), ("params", params_model, params)):
        try:
            checked.append(model.model_validate(value))
        except ValidationError as exc:
            errors.extend(_named(name, exc))
    if errors:
        raise InputInvalid.of(errors)
    return cast(tuple[Input, Params], tuple(checked))


def _text(given: TextInput, params: TextParams) -> TextRequest:
    messages = tuple(Message(message.role, message.content) for message in given.messages or ())
    return TextRequest(prompt=given.prompt, messages=messages, **_set(params))


def _image(given: ImageInput, params: ImageParams) -> ImageRequest:
    image = None if given.image is None else _blob(given.image)
    return ImageRequest(prompt=given.prompt, negative_prompt=given.negative_prompt, image=image, **_set(params))


def _audio(given: AudioInput, params: AudioParams) -> AudioRequest:
    return AudioRequest(audio=_blob(given.audio or ""), **_set(params))


def _embedding(given: EmbeddingInput, params: EmbeddingParams) -> EmbeddingRequest:
    texts = given.texts or given.input or [given.text or ""]
    return EmbeddingRequest(texts=tuple(texts), **_set(params))


def _set(params: BaseModel) -> dict[str, Any]:  # Any: the fields differ in type
    return {name: value for name, value in params if value is not None}


# ---- what is wrong, in the caller's words ----


def _named(root: str, error: ValidationError) -> Iterator[tuple[str, str]]:
    for detail in error.errors(include_url=False):
        path = ".".join([root, *(str(part) for part in detail["loc"])])
        yield path, _message(detail)


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here: check the spelling, or leave it out"
        case "empty" | "unsupported" | "sources" | "base64":
            return detail["msg"]
        case _:
            return f"{detail['msg'].removeprefix('Input ')}, got {_shown(detail['input'])}"


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


def _checked_base64(value: str) -> str:
    try:
        if _blob(value).data:
            return value
    except (binascii.Error, ValueError) as exc:
        raise PydanticCustomError("base64", "is not base64: {why}", {"why": str(exc)}) from exc
    raise PydanticCustomError("base64", "is empty: send the bytes of a file as base64")


def _blob(value: str) -> Blob:
    """Base64, plain or as a data URL: `data:audio/wav;base64,...`."""
    if not value.startswith("data:"):
        return Blob(base64.b64decode(value, validate=True))
    head, _, body = value.partition(",")
    content_type = head.removeprefix("data:").split(";")[0]
    return Blob(base64.b64decode(body, validate=True), content_type or "application/octet-stream")


# ---- results to JSON ----


def output_of(result: TaskResult) -> Json:
    """A job's `output`, as wire.md has it. Pictures are inline, as base64."""
    match result:
        case TextResult(text, finish_reason):
            return {"text": text, "finish_reason": finish_reason}
        case EmbeddingResult(dimensions, vectors):
            return {"embeddings": _rows(vectors, dimensions), "dimensions": dimensions}
        case AudioResult(text, language, duration_s, segments):
            return {
                "text": text,
                "language": language,
                "duration_s": duration_s,
                "segments": [segment_json(segment) for segment in segments],
            }
        case ImageResult(images):
            return {
                "images": [
                    {
                        "data": base64.b64encode(image.data).decode(),
                        "content_type": image.content_type,
                        "width": image.width,
                        "height": image.height,
                        "seed": image.seed,
                    }
                    for image in images
                ]
            }
        case _:
            assert_never(result)


def segment_json(segment: Segment) -> Json:
    """One stretch of speech, times in seconds; `words` where they were asked for."""
    shown: Json = {"start": segment.start_s, "end": segment.end_s, "text": segment.text}
    if segment.words:
        shown["words"] = [
            {"start": word.start_s, "end": word.end_s, "text": word.text, "probability": word.probability}
            for word in segment.words
        ]
    return shown


def usage_json(usage: Usage) -> Json:
    """The counts of a usage, by their names on the wire."""
    return asdict(usage)


def usage_from(value: Mapping[str, Any]) -> Usage:  # Any: decoded JSON
    return Usage(**value)


def _rows(vectors: bytes, dimensions: int) -> list[list[float]]:
    """Little-endian float32 rows. The shortest decimal that reads back as the same float32 would cost more than it saves."""
    size = dimensions * 4
    unpack = struct.Struct(f"<{dimensions}f").unpack_from
    return [list(unpack(vectors, start)) for start in range(0, len(vectors), size)]
