"""Transcription and translation. Source: https://platform.openai.com/docs/api-reference/audio."""

import math
from collections.abc import Sequence
from typing import Any

from protos.types import AudioRequest, AudioResult, Segment, Usage, Word
from providers.catalog import VendorModel
from providers.languages import language_code
from providers.openai_wire.dialect import Body, Dialect, Wrong
from providers.remote import Answer
from providers.sound import file_name


def wrong(request: AudioRequest, model: VendorModel, dialect: Dialect) -> Wrong:
    if not request.audio.data:
        yield "input.audio", "is empty: send the bytes of an audio file"
    if request.task == "translate" and request.word_timestamps:
        yield "params.word_timestamps", f"is not taken by {dialect.vendor} with task translate: leave it out"
    if request.task == "translate" and request.language:
        yield "params.language", f"is not taken by {dialect.vendor} with task translate: it hears the language itself"
    if request.word_timestamps and "word_timestamps" in model.refuses:
        yield "params.word_timestamps", f"is not taken by {model.id}: leave it out"


def body(request: AudioRequest, model: VendorModel) -> Body:
    audio = request.audio
    sent: Body = {
        "model": model.id,
        "file": (file_name(audio), audio.data, audio.content_type),
        "response_format": "verbose_json",
    }
    if request.prompt:
        sent["prompt"] = request.prompt
    if request.temperature:
        sent["temperature"] = request.temperature
    if request.task == "transcribe":
        if request.language:
            sent["language"] = request.language
        if request.word_timestamps:
            sent["timestamp_granularities"] = ["word", "segment"]
    if "vad" in model.takes:
        sent["extra_body"] = {model.takes["vad"]: request.vad}
    return sent


def answer(reply: Any) -> Answer:  # Any: the client does not check what it parses
    """Raises ValueError, TypeError or AttributeError where the reply is malformed."""
    duration_s = float(reply.duration)
    words = list(getattr(reply, "words", None) or ())
    segments = tuple(_segment(each, words) for each in getattr(reply, "segments", None) or ())
    language = language_code(getattr(reply, "language", None) or "")
    used = getattr(reply, "usage", None)
    charged_s = float(getattr(used, "seconds", None) or duration_s)  # the vendor rounds to whole seconds
    result = AudioResult(str(reply.text), language, duration_s, segments)
    return Answer(result, Usage(audio_seconds=charged_s))


def _segment(segment: Any, words: Sequence[Any]) -> Segment:  # Any: as above
    """The words come in one list for the whole file: each goes to the segment that it begins in."""
    start_s, end_s = float(segment.start), float(segment.end)
    logprob = getattr(segment, "avg_logprob", None)
    probability = math.exp(min(float(logprob), 0.0)) if logprob is not None else 1.0
    own = tuple(
        Word(float(word.start), float(word.end), word.word, float(getattr(word, "probability", probability)))
        for word in words
        if start_s <= float(word.start) < end_s
    )
    return Segment(start_s, end_s, str(segment.text), own)
