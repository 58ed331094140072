"""The JSON of a job to a task, and a result to JSON: wire.md's table of modalities. Pure.

Not about which JSON is right (inputs.py).
"""

import base64
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar, assert_never, cast

from pydantic import BaseModel, ValidationError

from protos.errors import InputInvalid
from protos.types import (
    AudioRequest,
    AudioResult,
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
from router.inputs import (
    AudioInput,
    AudioParams,
    EmbeddingInput,
    EmbeddingParams,
    ImageInput,
    ImageParams,
    TextInput,
    TextParams,
    blob_of,
    named_errors,
)
from router.jobs import Job, Json


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
            errors.extend(named_errors(name, exc))
    if errors:
        raise InputInvalid.of(errors)
    return cast(tuple[Input, Params], tuple(checked))


def _text(given: TextInput, params: TextParams) -> TextRequest:
    messages = tuple(Message(message.role, message.content) for message in given.messages or ())
    return TextRequest(prompt=given.prompt, messages=messages, **_set(params))


def _image(given: ImageInput, params: ImageParams) -> ImageRequest:
    image = None if given.image is None else blob_of(given.image)
    return ImageRequest(prompt=given.prompt, negative_prompt=given.negative_prompt, image=image, **_set(params))


def _audio(given: AudioInput, params: AudioParams) -> AudioRequest:
    return AudioRequest(audio=blob_of(given.audio or ""), **_set(params))


def _embedding(given: EmbeddingInput, params: EmbeddingParams) -> EmbeddingRequest:
    texts = given.texts or given.input or [given.text or ""]
    return EmbeddingRequest(texts=tuple(texts), **_set(params))


def _set(params: BaseModel) -> dict[str, Any]:  # Any: the fields differ in type
    return {name: value for name, value in params if value is not None}


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
