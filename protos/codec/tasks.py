"""Tasks as messages and back: what is asked of a node.

Not about what it answers (events.py).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

from google.protobuf.message import Message as Protobuf

from protos.errors import InputInvalid
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import (
    DEFAULT_ORGANIZATION,
    AudioRequest,
    Blob,
    EmbeddingRequest,
    ImageRequest,
    ImageScheduler,
    Message,
    ModelId,
    OrganizationId,
    Privacy,
    ResponseFormat,
    Task,
    TaskId,
    TaskRequest,
    TextRequest,
    Tier,
)

FindBlob = Callable[[str], bytes]
"""The staged bytes of a blob id; raises NotFound."""


def task_message(task: Task) -> pb.Task:
    """The task as a message, with its blobs inline."""
    message = pb.Task(
        id=task.id,
        model=task.model or "",
        organization_id=task.organization_id,
        priority=task.priority,
        timeout_s=task.timeout_s,
        tier=task.tier or "",
        privacy=task.privacy,
        forwarded=task.is_forwarded,
    )
    request = task.request
    match request:
        case TextRequest():
            message.text.CopyFrom(_text_message(request))
        case ImageRequest():
            message.image.CopyFrom(_image_message(request))
        case AudioRequest():
            message.audio.CopyFrom(_audio_message(request))
        case EmbeddingRequest():
            message.embedding.CopyFrom(_embedding_message(request))
        case _:
            assert_never(request)
    return message


def task_from(message: pb.Task, find_blob: FindBlob) -> Task:
    """The task of a message. Raises InputInvalid where no request is set, an audio request has no audio, or the tier or
    the privacy is none."""
    return Task(
        id=TaskId(message.id),
        model=ModelId(message.model) if message.model else None,
        organization_id=OrganizationId(message.organization_id or DEFAULT_ORGANIZATION),
        request=_request_from(message, find_blob),
        tier=_tier_from(message.tier),
        privacy=_privacy_from(message.privacy),
        is_forwarded=message.forwarded,
        **_given(message, "priority", "timeout_s"),
    )


def _tier_from(text: str) -> Tier | None:
    if text not in {"", *Tier}:
        raise InputInvalid.at("tier", f"is {text!r}: give {' or '.join(Tier)}, or nothing for any")
    return Tier(text) if text else None


def _privacy_from(text: str) -> Privacy:
    match text:
        case "" | "any":
            return "any"
        case "local_only":
            return "local_only"
        case _:
            raise InputInvalid.at("privacy", f"is {text!r}: give local_only or any")


def _request_from(message: pb.Task, find_blob: FindBlob) -> TaskRequest:
    match message.WhichOneof("request"):
        case "text":
            return _text_from(message.text)
        case "image":
            return _image_from(message.image, find_blob)
        case "audio":
            return _audio_from(message.audio, find_blob)
        case "embedding":
            return _embedding_from(message.embedding)
        case _:
            raise InputInvalid.at("request", "is missing: set one of text, image, audio, embedding")


def _text_message(request: TextRequest) -> pb.TextRequest:
    message = pb.TextRequest(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        max_tokens=request.max_tokens,
        stop=request.stop,
        seed=request.seed,
        repetition_penalty=request.repetition_penalty,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logprobs=request.logprobs,
        n=request.n,
        response_format=_format_message(request.response_format),
    )
    if request.prompt is not None:
        message.prompt = request.prompt
    else:
        message.messages.items.extend(pb.Message(role=m.role, content=m.content) for m in request.messages)
    return message


def _text_from(message: pb.TextRequest) -> TextRequest:
    return TextRequest(
        prompt=message.prompt if message.WhichOneof("input") == "prompt" else None,
        messages=tuple(Message(m.role, m.content) for m in message.messages.items),
        top_k=message.top_k,
        min_p=message.min_p,
        stop=tuple(message.stop),
        frequency_penalty=message.frequency_penalty,
        presence_penalty=message.presence_penalty,
        response_format=_format_from(message.response_format) if message.HasField("response_format") else None,
        **_given(message, "temperature", "top_p", "max_tokens", "seed", "repetition_penalty", "logprobs", "n"),
    )


def _format_message(response_format: ResponseFormat | None) -> pb.ResponseFormat | None:
    if response_format is None:
        return None
    return pb.ResponseFormat(
        kind=response_format.kind,
        definition=response_format.definition,
        name=response_format.name,
        strict=response_format.is_strict,
    )


def _format_from(message: pb.ResponseFormat) -> ResponseFormat:
    match message.kind:
        case "json_object" | "json_schema" | "regex" | "grammar" as kind:
            return ResponseFormat(kind, message.definition, message.name, message.strict)
        case other:
            raise InputInvalid.at(
                "response_format.kind", f"is {other!r}: give one of json_object, json_schema, regex, grammar"
            )


_SCHEDULERS: Final[Mapping[ImageScheduler | None, pb.ImageScheduler]] = {
    None: pb.IMAGE_SCHEDULER_UNSPECIFIED,
    "ddim": pb.IMAGE_SCHEDULER_DDIM,
    "euler": pb.IMAGE_SCHEDULER_EULER,
    "euler_ancestral": pb.IMAGE_SCHEDULER_EULER_ANCESTRAL,
    "dpmpp_2m": pb.IMAGE_SCHEDULER_DPMPP_2M,
    "flow_euler": pb.IMAGE_SCHEDULER_FLOW_EULER,
}


def _scheduler_from(value: pb.ImageScheduler) -> ImageScheduler | None:
    for name, known in _SCHEDULERS.items():
        if known == value:
            return name
    known_names = ", ".join(filter(None, _SCHEDULERS))
    raise InputInvalid.at("scheduler", f"is {value}, which this release does not know: give one of {known_names}")


def _image_message(request: ImageRequest) -> pb.ImageRequest:
    return pb.ImageRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=_blob_message(request.image) if request.image is not None else None,
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        strength=request.strength,
        seed=request.seed,
        n=request.n,
        scheduler=_SCHEDULERS[request.scheduler],
        preview_every=request.preview_every,
    )


def _image_from(message: pb.ImageRequest, find_blob: FindBlob) -> ImageRequest:
    return ImageRequest(
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        image=_blob_from(message.image, find_blob) if message.HasField("image") else None,
        scheduler=_scheduler_from(message.scheduler),
        **_given(message, "width", "height", "steps", "guidance_scale", "strength", "seed", "n", "preview_every"),
    )


def _audio_message(request: AudioRequest) -> pb.AudioRequest:
    translate = request.task == "translate"
    return pb.AudioRequest(
        audio=_blob_message(request.audio),
        language=request.language,
        task=pb.AUDIO_TASK_TRANSLATE if translate else pb.AUDIO_TASK_TRANSCRIBE,
        word_timestamps=request.word_timestamps,
        prompt=request.prompt,
        vad=request.vad,
        temperature=request.temperature,
    )


def _audio_from(message: pb.AudioRequest, find_blob: FindBlob) -> AudioRequest:
    if not message.HasField("audio"):
        raise InputInvalid.at("audio", "is missing: send the bytes of an audio file or the id of staged ones")
    return AudioRequest(
        audio=_blob_from(message.audio, find_blob),
        language=message.language,
        task="translate" if message.task == pb.AUDIO_TASK_TRANSLATE else "transcribe",
        word_timestamps=message.word_timestamps,
        prompt=message.prompt,
        temperature=message.temperature,
        **_given(message, "vad"),
    )


def _embedding_message(request: EmbeddingRequest) -> pb.EmbeddingRequest:
    return pb.EmbeddingRequest(
        texts=request.texts,
        dimensions=request.dimensions,
        normalize=request.normalize,
        prompt_name=request.prompt_name,
    )


def _embedding_from(message: pb.EmbeddingRequest) -> EmbeddingRequest:
    return EmbeddingRequest(
        texts=tuple(message.texts),
        prompt_name=message.prompt_name,
        **_given(message, "dimensions", "normalize"),
    )


def _blob_message(blob: Blob) -> pb.Blob:
    return pb.Blob(content_type=blob.content_type, data=blob.data)


def _blob_from(message: pb.Blob, find_blob: FindBlob) -> Blob:
    staged = message.WhichOneof("source") == "blob_id"
    return Blob(find_blob(message.blob_id) if staged else message.data, message.content_type)


def _given(message: Protobuf, *names: str) -> dict[str, Any]:  # Any: each field has its own type
    """The optional fields that the caller set. For the others the dataclass has the default, here as over HTTP."""
    return {name: getattr(message, name) for name in names if message.HasField(name)}
