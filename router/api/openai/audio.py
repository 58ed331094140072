"""/v1/audio/transcriptions and /v1/audio/translations. Source: https://platform.openai.com/docs/api-reference/audio."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

from protos.errors import InputInvalid, Internal
from protos.types import AudioRequest, AudioResult, Blob, Finished, SegmentDelta, TaskEvent
from router.api.openai.calls import Caller, WithCaller
from router.api.openai.dialect import ERRORS, DialectRoute, chunk, told
from router.api.openai.shapes import Transcription
from router.api.sse import EventStream
from router.subtitles import srt, vtt

routes = APIRouter(prefix="/v1/audio", tags=["openai"], route_class=DialectRoute, responses=ERRORS)

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
_UploadedFile = Annotated[UploadFile, File(description="any common sound or video file")]
_Model = Annotated[str | None, Form()]
_Prompt = Annotated[str, Form(description="what was said before, or names to spell")]
_Format = Annotated[Format, Form()]
_Temperature = Annotated[float, Form(ge=0, le=1)]
_WORDS: Final = "word"


@routes.post("/transcriptions", response_model=Transcription)
async def transcribe(
    *,
    caller: WithCaller,
    file: _UploadedFile,
    model: _Model = None,
    language: Annotated[str, Form(pattern="^([a-z]{2,3})?$", description="ISO 639-1; empty: detected")] = "",
    prompt: _Prompt = "",
    response_format: _Format = "json",
    temperature: _Temperature = 0.0,
    granularities: Annotated[list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]")] = None,
    stream: Annotated[bool, Form(description="deltas as they are heard; with response_format json")] = False,
) -> Response:
    """The words of a recording."""
    wants_words = _WORDS in (granularities or ())
    if wants_words and response_format != "verbose_json":
        raise InputInvalid.at(
            "timestamp_granularities", "asks for words, which only response_format verbose_json shows"
        )
    request = AudioRequest(
        audio=await _blob(file),
        language=language,
        prompt=prompt,
        temperature=temperature,
        word_timestamps=wants_words,
    )
    if stream:
        if response_format != "json":
            raise InputInvalid.at("response_format", f"is {response_format!r}: a stream has json alone")
        _, events = await caller.started(caller.task(request, model))
        return EventStream(told(_deltas(events)), caller.parts.closing)
    return _answer(await _heard(caller, request, model), "transcribe", response_format, wants_words=wants_words)


@routes.post("/translations", response_model=Transcription)
async def translate(
    *,
    caller: WithCaller,
    file: _UploadedFile,
    model: _Model = None,
    prompt: _Prompt = "",
    response_format: _Format = "json",
    temperature: _Temperature = 0.0,
) -> Response:
    """What is said in a recording, in English."""
    request = AudioRequest(audio=await _blob(file), task="translate", prompt=prompt, temperature=temperature)
    return _answer(await _heard(caller, request, model), "translate", response_format, wants_words=False)


async def _blob(file: UploadFile) -> Blob:
    """Raises InputInvalid."""
    data = await file.read()
    if not data:
        raise InputInvalid.at("file", f"{(file.filename or 'the file')[:80]!r} is empty: send the bytes of a recording")
    return Blob(data, file.content_type or "application/octet-stream")


async def _heard(caller: Caller, request: AudioRequest, model: str | None) -> AudioResult:
    return _result((await caller.outcome(request, model)).finished)


def _result(finished: Finished) -> AudioResult:
    if not isinstance(finished.result, AudioResult):
        raise Internal(f"words were asked for and came back as {type(finished.result).__name__}: this is a bug")
    return finished.result


def _answer(result: AudioResult, task: str, response_format: Format, *, wants_words: bool) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(result.text + "\n")
        case "srt":
            return PlainTextResponse(srt(result.segments))
        case "vtt":
            return PlainTextResponse(vtt(result.segments), media_type="text/vtt")
        case "verbose_json":
            return JSONResponse(_verbose(result, task, wants_words=wants_words))
        case _:
            return JSONResponse({"text": result.text})


def _verbose(result: AudioResult, task: str, *, wants_words: bool) -> dict[str, Any]:  # Any: JSON
    """Without the fields of a segment that are about the decoder's inside: nobody here measured them."""
    shown: dict[str, Any] = {
        "task": task,
        "language": result.language,
        "duration": result.duration_s,
        "text": result.text,
        "segments": [
            {"id": index, "start": segment.start_s, "end": segment.end_s, "text": segment.text}
            for index, segment in enumerate(result.segments)
        ],
    }
    if wants_words:
        words = [word for segment in result.segments for word in segment.words]
        shown["words"] = [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in words]
    return shown


async def _deltas(events: AsyncGenerator[TaskEvent, None]) -> AsyncGenerator[bytes, None]:
    """A delta for each segment, then the whole."""
    is_first = True
    async with aclosing(events):
        async for event in events:
            if isinstance(event, SegmentDelta):
                text = event.segment.text if is_first else f" {event.segment.text}"
                is_first = False
                yield chunk({"type": "transcript.text.delta", "delta": text})
            if isinstance(event, Finished):
                yield chunk({"type": "transcript.text.done", "text": _result(event).text})
