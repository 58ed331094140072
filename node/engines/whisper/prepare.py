"""A request to windows of mel features: decoded, searched for speech, cut, and every value checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray
from tokenizers import Tokenizer

from node.engines.whisper.decoding import max_tokens
from node.engines.whisper.sound import MAX_AUDIO_S, SAMPLE_RATE_HZ, Samples, samples_of
from node.engines.whisper.windows import Span, Window, cut_where_quiet, duration_s, grouped
from protos.errors import InputInvalid
from protos.types import AudioRequest

MAX_PROMPT_TOKENS: Final = 223  # Source: OpenAI's Whisper: half of the 448 positions, less <|startofprev|>
SILENCE: Final = 1e-4  # of full scale, a third of a 16 bit file's last bit but one: no search for speech is needed
SEARCHED_SAMPLES: Final = 600 * SAMPLE_RATE_HZ  # at once: the search takes some four times the memory of its piece
MEL_FRAMES: Final = 3000  # of 10 ms, in a window

# Source: faster_whisper.transcribe.BatchedInferencePipeline, which also puts pieces of speech together
SPEECH: Final = VadOptions(max_speech_duration_s=30.0, min_silence_duration_ms=160)


@dataclass(frozen=True, slots=True)
class Vocal:
    """A window that is ready for the model."""

    window: Window
    mel: NDArray[np.float32] = field(repr=False, compare=False)  # (mels, frames up to MEL_FRAMES)

    @property
    def duration_s(self) -> float:
        return duration_s(self.window)

    @property
    def max_tokens(self) -> int:
        return max_tokens(self.duration_s)


@dataclass(frozen=True, slots=True)
class AudioPayload:
    """A prepared request. `vocals` is empty where nobody speaks."""

    request: AudioRequest
    duration_s: float
    language: str  # "": to be detected
    prompt: Sequence[int]
    vocals: Sequence[Vocal]


@dataclass(frozen=True, slots=True)
class Languages:
    """What the model can be asked for."""

    known: frozenset[str]
    is_multilingual: bool


class Reader:
    """Makes payloads of requests; any number of threads may share it, since none of its parts keeps state."""

    def __init__(
        self, tokenizer: Tokenizer, extractor: FeatureExtractor, languages: Languages, max_audio_s: float = MAX_AUDIO_S
    ) -> None:
        self._tokenizer = tokenizer
        self._extractor = extractor  # keeps state only when it is called with a chunk_length: it never is
        self._languages = languages
        self._max_audio_s = max_audio_s

    def read(self, request: AudioRequest) -> AudioPayload:
        """Raises InputInvalid with the field, its value and what would do."""
        check(request, self._languages)
        samples = samples_of(request.audio.data, self._max_audio_s)
        windows = spoken_windows(samples) if request.vad else [(span,) for span in cut_where_quiet(samples)]
        return AudioPayload(
            request=request,
            duration_s=len(samples) / SAMPLE_RATE_HZ,
            language=request.language or ("" if self._languages.is_multilingual else "en"),
            prompt=self._prompt(request.prompt),
            vocals=[Vocal(window, self._mel(samples, window)) for window in windows],
        )

    def _prompt(self, text: str) -> list[int]:
        """The last tokens of what was said before."""
        if not text.strip():
            return []
        return list(self._tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids[-MAX_PROMPT_TOKENS:])

    def _mel(self, samples: Samples, window: Window) -> NDArray[np.float32]:
        spoken = np.concatenate([samples[span.start : span.end] for span in window])
        return np.ascontiguousarray(self._extractor(spoken)[:, :-1][:, :MEL_FRAMES], dtype=np.float32)


def check(request: AudioRequest, languages: Languages) -> None:
    """Every wrong value at once."""
    errors = []
    if request.language and request.language not in languages.known:
        errors.append(("language", f"is {request.language!r}: this model knows {', '.join(sorted(languages.known))}"))
    if request.task not in ("transcribe", "translate"):
        errors.append(("task", f"is {request.task!r}: give transcribe or translate"))
    elif request.task == "translate" and not languages.is_multilingual:
        errors.append(("task", "is translate, and this model knows English only: ask for transcribe"))
    if not 0.0 <= request.temperature <= 1.0:
        errors.append(("temperature", f"is {request.temperature}: give 0 to 1"))
    if errors:
        raise InputInvalid.of(errors)


def spoken_windows(samples: Samples) -> list[Window]:
    """Where somebody speaks, put together to windows. Empty where nobody does."""
    if max(samples.max(), -samples.min()) < SILENCE:
        return []
    return grouped([span for piece in cut_where_quiet(samples, SEARCHED_SAMPLES) for span in _spoken(samples, piece)])


def _spoken(samples: Samples, piece: Span) -> list[Span]:
    found = get_speech_timestamps(samples[piece.start : piece.end], SPEECH)
    return [Span(piece.start + int(span["start"]), piece.start + int(span["end"])) for span in found]
