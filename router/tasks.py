"""The JSON of a job to a task, and a result to JSON: wire.md's table of modalities. Pure.

Not about which JSON is right (inputs.py).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar, assert_never, cast

from pydantic import BaseModel, ValidationError

from protos.errors import InputInvalid
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    ChosenToken,
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
    TextDelta,
    TextRequest,
    TextResult,
    TokenLogprob,
    Usage,
)
from router.inputs import (
    AudioInput,
    AudioParams,
    EmbeddingInput,
    EmbeddingParams,
    ImageInput,
    ImageParams,
    Inline,
    Remote,
    Source,
    Stored,
    TextInput,
    TextParams,
    named_errors,
)
from router.jobs import Job, Json


def task_of(job: Job, file: Blob | None = None) -> Task:
    """The task of a job, under the job's id: a node that runs it already joins a second call. `file`: what its input
    refers to. Raises InputInvalid."""
    request = job.request
    return Task(
        id=TaskId(job.id),
        request=request_of(request.modality, request.input, request.params, file),
        model=ModelId(request.model) if request.model else None,
        organization_id=request.organization_id,
        priority=request.priority,
        timeout_s=request.timeout_s,
        tier=request.tier,
        privacy="local_only" if request.privacy == "local_only" else "any",  # another router that gets it keeps to it
    )


def request_of(modality: Modality, input: Json, params: Json, file: Blob | None = None) -> TaskRequest:  # noqa: A002  # the wire's name
    """What wire.md's table makes of it. `file`: what the input refers to; without it, what an asset or a URL would hold
    is left empty, which is enough to check the rest. Raises InputInvalid that names every wrong field:
    "params.temperature"."""
    match modality:
        case Modality.TEXT:
            return _text(*_checked(TextInput, input, TextParams, params))
        case Modality.IMAGE:
            return _image(*_checked(ImageInput, input, ImageParams, params), file)
        case Modality.AUDIO:
            return _audio(*_checked(AudioInput, input, AudioParams, params), file)
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
    asked = params.response_format.asked() if params.response_format is not None else None
    return TextRequest(prompt=given.prompt, messages=messages, **(_set(params) | {"response_format": asked}))


def _image(given: ImageInput, params: ImageParams, file: Blob | None) -> ImageRequest:
    image = None if given.image is None else _blob(given.image, file)
    return ImageRequest(prompt=given.prompt, negative_prompt=given.negative_prompt, image=image, **_set(params))


def _audio(given: AudioInput, params: AudioParams, file: Blob | None) -> AudioRequest:
    asked = _set(params)
    asked.pop("subtitles", None)  # made of the result (subtitles.py)
    return AudioRequest(audio=_blob(given.source, file), **asked)


def _blob(source: Source, file: Blob | None) -> Blob:
    return file or (source.blob if isinstance(source, Inline) else Blob(b""))


def _embedding(given: EmbeddingInput, params: EmbeddingParams) -> EmbeddingRequest:
    texts = given.texts or given.input or [given.text or ""]
    return EmbeddingRequest(texts=tuple(texts), **_set(params))


def _set(params: BaseModel) -> dict[str, Any]:  # Any: the fields differ in type
    return {name: value for name, value in params if value is not None}


# ---- the file of an input ----


@dataclass(frozen=True, slots=True)
class Attached:
    """Where the file of an input is, and which field says so."""

    source: Source
    path: str


def attached(modality: Modality, input: Json) -> Attached | None:  # noqa: A002  # the wire's name
    """None when the input has no file. Raises InputInvalid."""
    match modality:
        case Modality.IMAGE:
            picture, _ = _checked(ImageInput, input, ImageParams, {})
            return None if picture.image is None else Attached(picture.image, "input.image")
        case Modality.AUDIO:
            sound, _ = _checked(AudioInput, input, AudioParams, {})
            return Attached(sound.source, f"input.{_AUDIO_FIELD[type(sound.source)]}")
        case Modality.TEXT | Modality.EMBEDDING:
            return None
        case _:
            assert_never(modality)


_AUDIO_FIELD: Final[Mapping[type, str]] = {Inline: "audio", Remote: "audio_url", Stored: "asset_id"}


def referring(modality: Modality, input: Json, asset_id: str) -> Json:  # noqa: A002  # the wire's name
    """The same input with an asset in the place of its file."""
    if modality is Modality.IMAGE:
        return input | {"image": asset_id}
    return {name: value for name, value in input.items() if name not in _AUDIO_FIELD.values()} | {"asset_id": asset_id}


# ---- results to JSON ----


def image_output(result: ImageResult, assets: Sequence[tuple[str, str]]) -> Json:
    """A job's `output` of pictures. assets: the id and a URL of each, in their order."""
    return {
        "images": [
            {
                "asset_id": asset_id,
                "url": url,
                "content_type": image.content_type,
                "width": image.width,
                "height": image.height,
                "seed": image.seed,
            }
            for image, (asset_id, url) in zip(result.images, assets, strict=True)
        ]
    }


def embeddings_elsewhere(result: EmbeddingResult, asset_id: str, url: str) -> Json:
    """What stands for many embeddings in a job's row, and in lists of jobs: the asset that has the whole output."""
    return {"embeddings": None, "dimensions": result.dimensions, "asset_id": asset_id, "url": url}


def elsewhere(output: Json | None) -> str | None:
    """The asset that has the whole of this output; None when it is all there."""
    return output["asset_id"] if output and "embeddings" in output and output["embeddings"] is None else None


def output_of(result: TextResult | AudioResult | EmbeddingResult) -> Json:
    """A job's `output`, as wire.md has it, where no file is in it."""
    match result:
        case TextResult():
            output = _answer_json(result)
            if result.more:
                output["choices"] = [{"index": i, **_answer_json(each)} for i, each in enumerate(result.answers)]
            return output
        case EmbeddingResult(dimensions, vectors):
            return {"embeddings": _rows(vectors, dimensions), "dimensions": dimensions}
        case AudioResult(text, language, duration_s, segments):
            return {
                "text": text,
                "language": language,
                "duration_s": duration_s,
                "segments": [segment_json(segment) for segment in segments],
            }
        case _:
            assert_never(result)


def delta_json(delta: TextDelta) -> Json:
    """A piece of text while it is made. `index`: which of several answers, where it is not the first."""
    shown: Json = {"text": delta.text}
    if delta.answer:
        shown["index"] = delta.answer
    if delta.logprobs:
        shown["logprobs"] = logprobs_json(delta.logprobs)
    return shown


def _answer_json(answer: TextResult) -> Json:
    """`logprobs` where they were asked for."""
    shown: Json = {"text": answer.text, "finish_reason": answer.finish_reason}
    if answer.logprobs:
        shown["logprobs"] = logprobs_json(answer.logprobs)
    return shown


def logprobs_json(tokens: Sequence[ChosenToken]) -> list[Json]:
    """As `content` of OpenAI's chats has them. Source: https://platform.openai.com/docs/api-reference/chat/object."""
    return [_token_json(each.token) | {"top_logprobs": [_token_json(other) for other in each.top]} for each in tokens]


def _token_json(token: TokenLogprob) -> Json:
    return {"token": text_of_token(token), "logprob": token.logprob, "bytes": list(token.data)}


def text_of_token(token: TokenLogprob) -> str:
    """A token may begin or end within a character, for which its bytes are there."""
    return token.data.decode(errors="replace")


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
