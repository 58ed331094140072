"""Echo: a provider that answers from the request alone, so that the API works with no node and no key.

Text comes back word by word, an embedding is a hash on the unit sphere, a picture is one colour, a transcript is fixed.
"""

import asyncio
import hashlib
import json
import math
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from protos.errors import Cancelled, InputInvalid, ModelNotFound
from protos.types import (
    AudioRequest,
    AudioResult,
    ChosenToken,
    EmbeddingRequest,
    EmbeddingResult,
    Estimate,
    Finished,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    Modality,
    ModelId,
    NodeId,
    ProviderId,
    Queued,
    Segment,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TaskRequest,
    TaskResult,
    TextDelta,
    TextRequest,
    TextResult,
    Tier,
    Timings,
    TokenLogprob,
    Usage,
)
from providers.base import Health, Offer, Snapshot

MODEL: Final = ModelId("echo")
TRANSCRIPT: Final = "This is echo: it hears nothing and always says this."
_DURATION_S: Final = 1.0  # that it claims for any audio
_DIMENSIONS: Final = 16  # of a vector when the request names none
_DIMENSIONS_LIMIT: Final = 4096
_SIDE: Final = 8  # pixels of a picture when the request names none
_SIDE_LIMIT: Final = 2048  # pixels


_SNAPSHOT: Final = Snapshot(
    id=ProviderId("echo"),
    kind="echo",
    tier=Tier.BASIC,
    offers=tuple(Offer(model=MODEL, modality=modality, max_batch=64) for modality in Modality),
    health=Health(status="healthy"),
    only_when_named=True,
    is_remote=False,
)


@dataclass(eq=False, slots=True)
class _Call:
    task_id: TaskId
    is_cancelled: bool = False


class Echo:
    """Serves only tasks that name the model `echo`. Costs nothing and needs nothing."""

    id = ProviderId("echo")

    def __init__(self) -> None:
        self._calls: set[_Call] = set()

    def snapshot(self) -> Snapshot:
        return _SNAPSHOT

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        _check(task)
        call = _Call(task.id)
        self._calls.add(call)
        try:
            for event in _events(task):
                await asyncio.sleep(0)  # a cancel, or another call, gets its turn between two events
                if call.is_cancelled:
                    raise Cancelled(f"task {task.id} was cancelled")
                yield event
        finally:
            self._calls.discard(call)

    async def cancel(self, task_id: TaskId) -> None:
        for call in self._calls:
            if call.task_id == task_id:
                call.is_cancelled = True

    async def estimate(self, task: Task) -> Estimate:
        _check(task)
        usage = _usage(task.request, _result(task.request))
        return Estimate(model=MODEL, usage=usage, queue_s=0.0, load_s=0.0, run_s=0.0, total_s=0.0, fits_memory=True)

    async def start(self) -> None:
        """Nothing to watch."""

    async def close(self) -> None:
        """Nothing to release."""


def _check(task: Task) -> None:
    if task.model not in (None, MODEL):
        raise ModelNotFound(f"echo has no model {task.model!r}: name {MODEL!r}")
    _check_request(task.request)


def _check_request(request: TaskRequest) -> None:
    match request:
        case TextRequest(prompt=prompt, messages=messages, response_format=response_format):
            if not prompt and not messages:
                raise InputInvalid.at("input.prompt", "is empty: give a prompt, or messages")
            if response_format is not None and response_format.kind != "json_object":
                raise InputInvalid.at(
                    "params.response_format", f"is a {response_format.kind}: echo keeps to json_object only"
                )
        case EmbeddingRequest(texts=texts, dimensions=dimensions):
            _check_texts(texts)
            if dimensions is not None and not 1 <= dimensions <= _DIMENSIONS_LIMIT:
                raise InputInvalid.at("params.dimensions", f"is {dimensions}: use 1 to {_DIMENSIONS_LIMIT}")
        case ImageRequest(width=width, height=height):
            _check_side("width", width)
            _check_side("height", height)
        case AudioRequest(audio=audio):
            if not audio.data:
                raise InputInvalid.at("input.audio", "is empty: send the bytes of an audio file")
        case _:
            assert_never(request)


def _check_side(name: str, pixels: int | None) -> None:
    if pixels is not None and not 1 <= pixels <= _SIDE_LIMIT:
        raise InputInvalid.at(f"params.{name}", f"is {pixels}: use 1 to {_SIDE_LIMIT} pixels")


def _check_texts(texts: Sequence[str]) -> None:
    if not texts:
        raise InputInvalid.at("input.texts", "is empty: give at least one text to embed")
    empty = [
        (f"input.texts[{index}]", "is empty: give a text to embed") for index, text in enumerate(texts) if not text
    ]
    if empty:
        raise InputInvalid.of(empty)


def _events(task: Task) -> Iterator[TaskEvent]:
    yield Queued(0)
    yield Started(NodeId("echo"), MODEL)
    result = _result(task.request)
    if isinstance(result, TextResult):
        for place, word in enumerate(_words(result.text)):
            yield from (
                TextDelta(word, number, result.logprobs[place : place + 1]) for number in range(len(result.answers))
            )
    yield Finished(result, _usage(task.request, result), Timings())


def _result(request: TaskRequest) -> TaskResult:
    match request:
        case TextRequest():
            return _text(request)
        case EmbeddingRequest():
            dimensions = request.dimensions or _DIMENSIONS
            return EmbeddingResult(dimensions, b"".join(unit_vector(text, dimensions) for text in request.texts))
        case ImageRequest():
            return ImageResult(tuple(_picture(request, index) for index in range(request.n)))
        case AudioRequest():
            return AudioResult(
                TRANSCRIPT, request.language or "en", _DURATION_S, (Segment(0.0, _DURATION_S, TRANSCRIPT),)
            )
        case _:
            assert_never(request)


def _text(request: TextRequest) -> TextResult:
    asked = request.prompt if request.prompt is not None else request.messages[-1].content
    words = _words(asked if request.response_format is None else json.dumps({"said": asked}, ensure_ascii=False))
    said = words if request.max_tokens is None else words[: request.max_tokens]
    tokens = () if request.logprobs is None else tuple(_scored(word, request.logprobs) for word in said)
    one = TextResult("".join(said), "stop" if len(said) == len(words) else "length", tokens)
    return replace(one, more=(one,) * (request.n - 1))


def _scored(word: str, top: int) -> ChosenToken:
    """It is sure of each word, and knows no other."""
    token = TokenLogprob(word.encode(), 0.0)
    return ChosenToken(token, (token,)[:top])


def _words(text: str) -> list[str]:
    """The text cut before each space; joined again it is the same."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def unit_vector(text: str, dimensions: int) -> bytes:
    """Little-endian float32 of length 1, the same for the same text."""
    digest = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    values = [value - 32767.5 for value in struct.unpack(f"<{dimensions}H", digest)]  # never all 0
    length = math.sqrt(sum(value * value for value in values))
    return struct.pack(f"<{dimensions}f", *(value / length for value in values))


def _picture(request: ImageRequest, index: int) -> GeneratedImage:
    width, height, seed = request.width or _SIDE, request.height or _SIDE, (request.seed or 0) + index
    colour = hashlib.sha256(f"{seed}:{request.prompt}".encode()).digest()[:3]
    return GeneratedImage(png(width, height, colour), "image/png", width, height, seed)


def png(width: int, height: int, colour: bytes) -> bytes:
    """A picture of one colour (red, green, blue). Source: ISO/IEC 15948."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, no interlace
    rows = zlib.compress((b"\0" + colour * width) * height)  # each row begins with its filter: none
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _usage(request: TaskRequest, result: TaskResult) -> Usage:
    """Counted in words, as echo has no tokenizer."""
    match request, result:
        case TextRequest(), TextResult(answers=answers):
            said = [request.prompt] if request.prompt is not None else [m.content for m in request.messages]
            spoken = sum(len(answer.text.split()) for answer in answers)
            return Usage(input_tokens=sum(len(words.split()) for words in said), output_tokens=spoken)
        case EmbeddingRequest(texts=texts), _:
            return Usage(input_tokens=sum(len(text.split()) for text in texts))
        case ImageRequest(n=n), _:
            return Usage(images=n)
        case _:
            return Usage(audio_seconds=_DURATION_S)
