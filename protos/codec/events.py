"""The events of a task as messages and back; the bytes of a result cross in chunks ahead of it.

Not about what was asked (tasks.py).
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal, assert_never, cast

from protos.codec.usage import usage_from, usage_message
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import (
    AudioResult,
    ChosenToken,
    EmbeddingResult,
    Finished,
    GeneratedImage,
    ImageResult,
    ModelId,
    NodeId,
    Preview,
    Progress,
    Queued,
    Segment,
    SegmentDelta,
    Started,
    TaskEvent,
    TaskId,
    TaskResult,
    TextDelta,
    TextResult,
    Timings,
    TokenLogprob,
    Word,
)

CHUNK_BYTES: Final = 1 << 20  # of a blob in one message; gRPC's default bound on a message is 4 MiB


def event_messages(task_id: TaskId, event: TaskEvent) -> Iterator[pb.TaskEvent]:
    """The messages of one event: one, and before a Finished with pictures the chunks of their bytes."""
    match event:
        case Queued(position, eta_s):
            yield pb.TaskEvent(task_id=task_id, queued=pb.Queued(position=position, eta_s=eta_s))
        case Started(node_id, model):
            yield pb.TaskEvent(task_id=task_id, started=pb.Started(node_id=node_id, model=model))
        case Progress(fraction, step, steps):
            yield pb.TaskEvent(task_id=task_id, progress=pb.Progress(fraction=fraction, step=step, steps=steps))
        case TextDelta(text, answer, logprobs):
            output = pb.Output(text=text, answer=answer, logprobs=map(_chosen_message, logprobs))
            yield pb.TaskEvent(task_id=task_id, output=output)
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
        case TextResult():
            message.text.CopyFrom(_text_result_message(result))
        case EmbeddingResult(dimensions, vectors):
            yield from _chunks(task_id, _VECTORS, vectors)
            message.embedding.CopyFrom(pb.EmbeddingResult(dimensions=dimensions, blob_name=_VECTORS))
        case AudioResult():
            message.audio.CopyFrom(_audio_result_message(result))
        case ImageResult(images):
            message.image.SetInParent()  # an answer without a picture is one, too
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
                queued = message.queued
                return Queued(queued.position, queued.eta_s if queued.HasField("eta_s") else None)
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
                return _text_result_from(message.text)
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
            return TextDelta(message.text, message.answer, _chosen_from(message.logprobs))
        case "segment":
            return SegmentDelta(_segment_from(message.segment))
        case "preview":
            return Preview(message.preview.index, message.preview.data, message.preview.content_type)
        case _:
            return None


def _text_result_message(result: TextResult) -> pb.TextResult:
    return pb.TextResult(
        text=result.text,
        finish_reason=result.finish_reason,
        logprobs=map(_chosen_message, result.logprobs),
        more=map(_text_result_message, result.more),
    )


def _text_result_from(message: pb.TextResult) -> TextResult:
    reason = cast(Literal["stop", "length"], message.finish_reason)
    more = tuple(_text_result_from(each) for each in message.more)
    return TextResult(message.text, reason, _chosen_from(message.logprobs), more)


def _chosen_message(chosen: ChosenToken) -> pb.ChosenToken:
    return pb.ChosenToken(token=_token_message(chosen.token), top=map(_token_message, chosen.top))


def _chosen_from(messages: Iterable[pb.ChosenToken]) -> tuple[ChosenToken, ...]:
    return tuple(ChosenToken(_token_from(each.token), tuple(map(_token_from, each.top))) for each in messages)


def _token_message(token: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(data=token.data, logprob=token.logprob)


def _token_from(message: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(message.data, message.logprob)


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
