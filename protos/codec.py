"""gRPC messages to dataclasses and back. The only place that knows both.

`*_message` makes a message, `*_from` reads one. Not about statuses (grpc_status.py) nor about calls (node/rpc.py, providers/node.py).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, assert_never, cast

from protos.errors import InputInvalid
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import (
    DEFAULT_ORGANIZATION,
    AudioRequest,
    AudioResult,
    Blob,
    Device,
    EmbeddingRequest,
    EmbeddingResult,
    Estimate,
    Finished,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    Message,
    Modality,
    Model,
    ModelId,
    ModelState,
    ModelStatus,
    NodeId,
    NodeStatus,
    OrganizationId,
    Preview,
    Progress,
    Queued,
    Segment,
    SegmentDelta,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TaskRequest,
    TaskResult,
    TextDelta,
    TextRequest,
    TextResult,
    Timings,
    Usage,
    Word,
)

CHUNK_BYTES: Final = 1 << 20  # of a blob in one message; gRPC's default bound on a message is 4 MiB

_MODALITY: Final[Mapping[Modality, pb.Modality]] = {
    Modality.TEXT: pb.MODALITY_TEXT,
    Modality.IMAGE: pb.MODALITY_IMAGE,
    Modality.AUDIO: pb.MODALITY_AUDIO,
    Modality.EMBEDDING: pb.MODALITY_EMBEDDING,
}
_MODALITY_FROM: Final = {number: modality for modality, number in _MODALITY.items()}
_STATE: Final[Mapping[ModelState, pb.ModelState]] = {
    ModelState.UNLOADED: pb.MODEL_STATE_UNLOADED,
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.FAILED: pb.MODEL_STATE_FAILED,
}
_STATE_FROM: Final = {number: state for state, number in _STATE.items()}

FindBlob = Callable[[str], bytes]
"""The staged bytes of a blob id; raises NotFound."""


# ---- tasks ----


def task_message(task: Task) -> pb.Task:
    """The task as a message, with its blobs inline."""
    message = pb.Task(
        id=task.id,
        model=task.model or "",
        organization_id=task.organization_id,
        priority=task.priority,
        timeout_s=task.timeout_s,
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
    """The task of a message. Raises InputInvalid where no request is set or an audio request has no audio."""
    return Task(
        id=TaskId(message.id),
        model=ModelId(message.model) if message.model else None,
        organization_id=OrganizationId(message.organization_id or DEFAULT_ORGANIZATION),
        priority=message.priority,
        timeout_s=message.timeout_s if message.HasField("timeout_s") else None,
        request=_request_from(message, find_blob),
    )


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
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        min_p=message.min_p,
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        stop=tuple(message.stop),
        seed=message.seed if message.HasField("seed") else None,
        repetition_penalty=message.repetition_penalty,
    )


def _image_message(request: ImageRequest) -> pb.ImageRequest:
    return pb.ImageRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=blob_message(request.image) if request.image is not None else None,
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        strength=request.strength,
        seed=request.seed,
        n=request.n,
    )


def _image_from(message: pb.ImageRequest, find_blob: FindBlob) -> ImageRequest:
    return ImageRequest(
        prompt=message.prompt,
        negative_prompt=message.negative_prompt,
        image=_blob_from(message.image, find_blob) if message.HasField("image") else None,
        width=message.width if message.HasField("width") else None,
        height=message.height if message.HasField("height") else None,
        steps=message.steps if message.HasField("steps") else None,
        guidance_scale=message.guidance_scale if message.HasField("guidance_scale") else None,
        strength=message.strength if message.HasField("strength") else None,
        seed=message.seed if message.HasField("seed") else None,
        n=message.n,
    )


def _audio_message(request: AudioRequest) -> pb.AudioRequest:
    translate = request.task == "translate"
    return pb.AudioRequest(
        audio=blob_message(request.audio),
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
        vad=message.vad,
        temperature=message.temperature,
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
        dimensions=message.dimensions if message.HasField("dimensions") else None,
        normalize=message.normalize,
        prompt_name=message.prompt_name,
    )


def blob_message(blob: Blob) -> pb.Blob:
    return pb.Blob(content_type=blob.content_type, data=blob.data)


def _blob_from(message: pb.Blob, find_blob: FindBlob) -> Blob:
    staged = message.WhichOneof("source") == "blob_id"
    return Blob(find_blob(message.blob_id) if staged else message.data, message.content_type)


# ---- events ----


def event_messages(task_id: TaskId, event: TaskEvent) -> Iterator[pb.TaskEvent]:
    """The messages of one event: one, and before a Finished with pictures the chunks of their bytes."""
    match event:
        case Queued(position):
            yield pb.TaskEvent(task_id=task_id, queued=pb.Queued(position=position))
        case Started(node_id, model):
            yield pb.TaskEvent(task_id=task_id, started=pb.Started(node_id=node_id, model=model))
        case Progress(fraction, step, steps):
            yield pb.TaskEvent(task_id=task_id, progress=pb.Progress(fraction=fraction, step=step, steps=steps))
        case TextDelta(text):
            yield pb.TaskEvent(task_id=task_id, output=pb.Output(text=text))
        case SegmentDelta(segment):
            yield pb.TaskEvent(task_id=task_id, output=pb.Output(segment=_segment_message(segment)))
        case Preview(index, data, content_type):
            preview = pb.Preview(index=index, data=data, content_type=content_type)
            yield pb.TaskEvent(task_id=task_id, output=pb.Output(preview=preview))
        case Finished():
            yield from _finished_messages(task_id, event)
        case _:
            assert_never(event)


def _finished_messages(task_id: TaskId, event: Finished) -> Iterator[pb.TaskEvent]:
    message = pb.Finished(usage=usage_message(event.usage), timings=_timings_message(event.timings))
    result = event.result
    match result:
        case TextResult(text, finish_reason):
            message.text.CopyFrom(pb.TextResult(text=text, finish_reason=finish_reason))
        case EmbeddingResult(dimensions, vectors):
            yield from _chunks(task_id, _VECTORS, vectors)
            message.embedding.CopyFrom(pb.EmbeddingResult(dimensions=dimensions, blob_name=_VECTORS))
        case AudioResult():
            message.audio.CopyFrom(_audio_result_message(result))
        case ImageResult(images):
            for index, image in enumerate(images):
                yield from _chunks(task_id, f"image-{index}", image.data)
                message.image.images.append(_generated_message(f"image-{index}", image))
        case _:
            assert_never(result)
    yield pb.TaskEvent(task_id=task_id, finished=message)


_VECTORS: Final = "vectors"


def _chunks(task_id: TaskId, name: str, data: bytes) -> Iterator[pb.TaskEvent]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield pb.TaskEvent(task_id=task_id, blob=pb.BlobChunk(name=name, data=data[start : start + CHUNK_BYTES]))


class EventReader:
    """Reads the messages of one Execute call; keeps the chunks of blobs until the result that names them."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytearray] = {}

    def read(self, message: pb.TaskEvent) -> TaskEvent | None:
        """The event of a message; None for a chunk of a blob, or an event of a newer contract."""
        match message.WhichOneof("event"):
            case "queued":
                return Queued(message.queued.position)
            case "started":
                return Started(NodeId(message.started.node_id), ModelId(message.started.model))
            case "progress":
                return Progress(message.progress.fraction, message.progress.step, message.progress.steps)
            case "output":
                return _output_from(message.output)
            case "blob":
                self._blobs.setdefault(message.blob.name, bytearray()).extend(message.blob.data)
                return None
            case "finished":
                return self._finished(message.finished)
            case _:
                return None

    def _finished(self, message: pb.Finished) -> Finished:
        return Finished(self._result(message), usage_from(message.usage), _timings_from(message.timings))

    def _result(self, message: pb.Finished) -> TaskResult:
        match message.WhichOneof("result"):
            case "text":
                reason = cast(Literal["stop", "length"], message.text.finish_reason)
                return TextResult(message.text.text, reason)
            case "embedding":
                return EmbeddingResult(message.embedding.dimensions, self._blob(message.embedding.blob_name))
            case "audio":
                return _audio_result_from(message.audio)
            case "image":
                return ImageResult(tuple(self._generated(image) for image in message.image.images))
            case _:
                raise AssertionError("a finished event without a result: this is a bug")

    def _generated(self, message: pb.GeneratedImage) -> GeneratedImage:
        data = self._blob(message.blob_name)
        return GeneratedImage(data, message.content_type, message.width, message.height, message.seed)

    def _blob(self, name: str) -> bytes:
        return bytes(self._blobs.pop(name, b""))


def _output_from(message: pb.Output) -> TaskEvent | None:
    match message.WhichOneof("piece"):
        case "text":
            return TextDelta(message.text)
        case "segment":
            return SegmentDelta(_segment_from(message.segment))
        case "preview":
            return Preview(message.preview.index, message.preview.data, message.preview.content_type)
        case _:
            return None


def _generated_message(blob_name: str, image: GeneratedImage) -> pb.GeneratedImage:
    return pb.GeneratedImage(
        blob_name=blob_name,
        content_type=image.content_type,
        width=image.width,
        height=image.height,
        seed=image.seed,
    )


def _audio_result_message(result: AudioResult) -> pb.AudioResult:
    return pb.AudioResult(
        text=result.text,
        language=result.language,
        duration_s=result.duration_s,
        segments=[_segment_message(segment) for segment in result.segments],
    )


def _audio_result_from(message: pb.AudioResult) -> AudioResult:
    segments = tuple(_segment_from(segment) for segment in message.segments)
    return AudioResult(message.text, message.language, message.duration_s, segments)


def _segment_message(segment: Segment) -> pb.Segment:
    words = [pb.Word(start_s=w.start_s, end_s=w.end_s, text=w.text, probability=w.probability) for w in segment.words]
    return pb.Segment(start_s=segment.start_s, end_s=segment.end_s, text=segment.text, words=words)


def _segment_from(message: pb.Segment) -> Segment:
    words = tuple(Word(w.start_s, w.end_s, w.text, w.probability) for w in message.words)
    return Segment(message.start_s, message.end_s, message.text, words)


def usage_message(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        audio_seconds=usage.audio_seconds,
        images=usage.images,
        device_seconds=usage.device_seconds,
    )


def usage_from(message: pb.Usage) -> Usage:
    return Usage(
        input_tokens=message.input_tokens,
        output_tokens=message.output_tokens,
        audio_seconds=message.audio_seconds,
        images=message.images,
        device_seconds=message.device_seconds,
    )


def _timings_message(timings: Timings) -> pb.Timings:
    return pb.Timings(
        queued_s=timings.queued_s,
        load_s=timings.load_s,
        first_output_s=timings.first_output_s,
        total_s=timings.total_s,
    )


def _timings_from(message: pb.Timings) -> Timings:
    return Timings(
        queued_s=message.queued_s,
        load_s=message.load_s,
        first_output_s=message.first_output_s,
        total_s=message.total_s,
    )


# ---- models, estimates, status ----


def estimate_message(estimate: Estimate) -> pb.EstimateReply:
    return pb.EstimateReply(
        model=estimate.model,
        usage=usage_message(estimate.usage),
        queue_s=estimate.queue_s,
        load_s=estimate.load_s,
        run_s=estimate.run_s,
        total_s=estimate.total_s,
        fits_memory=estimate.fits_memory,
        would_evict=estimate.would_evict,
    )


def estimate_from(message: pb.EstimateReply) -> Estimate:
    return Estimate(
        model=ModelId(message.model),
        usage=usage_from(message.usage),
        queue_s=message.queue_s,
        load_s=message.load_s,
        run_s=message.run_s,
        total_s=message.total_s,
        fits_memory=message.fits_memory,
        would_evict=tuple(ModelId(model) for model in message.would_evict),
    )


def model_message(model: Model) -> pb.Model:
    return pb.Model(
        id=model.id,
        modality=_MODALITY[model.modality],
        state=_STATE[model.state],
        is_default=model.is_default,
        memory_bytes=model.memory_bytes,
        error=model.error,
        context_tokens=model.context_tokens,
        engine=model.engine,
    )


def model_from(message: pb.Model) -> Model:
    return Model(
        id=ModelId(message.id),
        modality=_MODALITY_FROM[message.modality],
        state=_STATE_FROM[message.state],
        is_default=message.is_default,
        memory_bytes=message.memory_bytes,
        error=message.error,
        context_tokens=message.context_tokens,
        engine=message.engine,
    )


def status_message(status: NodeStatus) -> pb.Status:
    device = status.device
    return pb.Status(
        node_id=status.node_id,
        device=pb.Device(
            kind=device.kind,
            name=device.name,
            total_bytes=device.total_bytes,
            used_bytes=device.used_bytes,
            reserved_bytes=device.reserved_bytes,
            foreign_bytes=device.foreign_bytes,
        ),
        models=[_model_status_message(model) for model in status.models],
        ready=status.ready,
        reason=status.reason,
        draining=status.draining,
        uptime_s=status.uptime_s,
        version=status.version,
    )


def status_from(message: pb.Status) -> NodeStatus:
    device = message.device
    return NodeStatus(
        node_id=NodeId(message.node_id),
        device=Device(
            kind="cuda" if device.kind == "cuda" else "cpu",
            name=device.name,
            total_bytes=device.total_bytes,
            used_bytes=device.used_bytes,
            reserved_bytes=device.reserved_bytes,
            foreign_bytes=device.foreign_bytes,
        ),
        models=tuple(_model_status_from(model) for model in message.models),
        ready=message.ready,
        reason=message.reason,
        draining=message.draining,
        uptime_s=message.uptime_s,
        version=message.version,
    )


def _model_status_message(status: ModelStatus) -> pb.ModelStatus:
    return pb.ModelStatus(
        model=model_message(status.model),
        waiting=status.waiting,
        waiting_limit=status.waiting_limit,
        running=status.running,
        last_batch=status.last_batch,
        max_batch=status.max_batch,
        steps_per_s=status.steps_per_s,
        units_per_s=status.units_per_s,
        device_seconds=status.device_seconds,
        last_step_age_s=status.last_step_age_s,
        oldest_wait_s=status.oldest_wait_s,
        succeeded=status.succeeded,
        failed=status.failed,
        cancelled=status.cancelled,
    )


def _model_status_from(message: pb.ModelStatus) -> ModelStatus:
    return ModelStatus(
        model=model_from(message.model),
        waiting=message.waiting,
        waiting_limit=message.waiting_limit,
        running=message.running,
        last_batch=message.last_batch,
        max_batch=message.max_batch,
        steps_per_s=message.steps_per_s,
        units_per_s=message.units_per_s,
        device_seconds=message.device_seconds,
        last_step_age_s=message.last_step_age_s,
        oldest_wait_s=message.oldest_wait_s,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
    )
