"""When an answer of the model is good enough, and what to try when it is not. Pure.

Source of the rule and of its numbers: faster_whisper.transcribe.WhisperModel.generate_with_fallback and .transcribe.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

TEMPERATURE_STEP: Final = 0.2
MAX_TOKENS: Final = 224  # half of the decoder's 448 positions; the other half is for the prompt


@dataclass(frozen=True, slots=True)
class Decoding:
    """How windows are decoded. The same for all requests of an engine, so that any can share a call."""

    beam_size: int = 5
    best_of: int = 5  # answers drawn at a temperature above 0
    compression_ratio_threshold: float = 2.4  # above it the text repeats itself
    logprob_threshold: float = -1.0  # below it, on average, the model does not believe itself
    no_speech_threshold: float = 0.6
    max_initial_timestamp_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer for one window."""

    tokens: Sequence[int]
    avg_logprob: float
    no_speech_probability: float
    compression_ratio: float


Verdict: TypeAlias = Literal["accept", "silent", "retry"]


def judge(attempt: Attempt, decoding: Decoding) -> Verdict:
    doubtful = attempt.avg_logprob < decoding.logprob_threshold
    if doubtful and attempt.no_speech_probability > decoding.no_speech_threshold:
        return "silent"
    if doubtful or attempt.compression_ratio > decoding.compression_ratio_threshold:
        return "retry"
    return "accept"


def best(attempts: Sequence[Attempt], decoding: Decoding) -> Attempt:
    """The most probable of those that do not repeat themselves, or of all: for when every temperature has failed."""
    varied = [a for a in attempts if a.compression_ratio <= decoding.compression_ratio_threshold]
    return max(varied or attempts, key=lambda a: a.avg_logprob)


def temperatures(first: float) -> tuple[float, ...]:
    """The ladder from the one asked for up to 1."""
    steps = int(round((1.0 - first) / TEMPERATURE_STEP, 6)) + 1
    return tuple(round(first + step * TEMPERATURE_STEP, 6) for step in range(steps))


def compression_ratio(text: str) -> float:
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def max_tokens(duration_s: float) -> int:
    """At most 8 tokens a second and 16: nobody speaks faster, and a model that runs away is stopped early.

    Three classes, not one per duration: windows of a class share a call, and all windows of a call have one bound.
    """
    for upper_s in (7.5, 15.0):
        if duration_s <= upper_s:
            return int(8 * upper_s + 16)
    return MAX_TOKENS
