"""What a soak asks of a node: good requests of every modality, bad ones, and what their callers do meanwhile."""

import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import soundfile

from node.engine import ModelSpec
from protos.types import AudioRequest, Blob, EmbeddingRequest, ImageRequest, Modality, TaskRequest, TextRequest

SPOKEN: Final = Path(__file__).resolve().parents[2] / "tests/node/engines/whisper/files/spoken.wav"
WORDS: Final = ("a red", "circle", "sits left", "of the small", "green square", "while seven", "blue triangles", "wait")
RATE_HZ: Final = 16_000

Caller: TypeAlias = Literal["reads", "cancels", "leaves"]
_CALLERS: Final[tuple[Caller, ...]] = ("reads",) * 7 + ("cancels",) * 2 + ("leaves",)
_BAD_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """One request and how its caller behaves."""

    request: TaskRequest
    is_bad: bool
    caller: Caller
    after_events: int  # that a caller who cancels or leaves has read before
    is_poison: bool = False  # every step that it sits in throws


def next_plan(spec: ModelSpec, chance: random.Random, *, poison_share: float = 0.0) -> Plan:
    """A request for that model."""
    if chance.random() < poison_share:
        return Plan(_GOOD[spec.modality](chance), is_bad=False, caller="reads", after_events=0, is_poison=True)
    if chance.random() < _BAD_SHARE:
        return Plan(chance.choice(_bad(spec)), is_bad=True, caller="reads", after_events=0)
    request = _GOOD[spec.modality](chance)
    return Plan(request, is_bad=False, caller=chance.choice(_CALLERS), after_events=chance.randint(1, 4))


def _text(chance: random.Random) -> TextRequest:
    prompt = " ".join(chance.choices(WORDS, k=chance.randint(1, 40)))
    return TextRequest(
        prompt=prompt,
        max_tokens=chance.randint(1, 32),
        temperature=chance.choice([0.0, 0.8]),
        seed=chance.randint(0, 99),
    )


def _embedding(chance: random.Random) -> EmbeddingRequest:
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 60))) for _ in range(chance.randint(1, 12))]
    return EmbeddingRequest(texts=texts)


def _image(chance: random.Random) -> ImageRequest:
    return ImageRequest(
        prompt="a red circle",
        steps=chance.randint(2, 6),
        n=chance.choice([1, 1, 1, 2]),
        seed=chance.randint(0, 99),
        guidance_scale=chance.choice([1.0, 3.0]),
    )


def _audio(chance: random.Random) -> AudioRequest:
    seconds = chance.choice([0, 2, 5, 20, 40])
    return AudioRequest(audio=_recording(seconds), word_timestamps=chance.random() < 0.3, language="en")


@cache
def _recording(seconds: int) -> Blob:
    """A sentence again and again; 0: five seconds of silence."""
    said, rate_hz = soundfile.read(SPOKEN, dtype="float32")
    sentence = np.concatenate([np.repeat(said, RATE_HZ // rate_hz), np.zeros(RATE_HZ // 2, np.float32)])
    samples = np.resize(sentence, seconds * RATE_HZ) if seconds else np.zeros(5 * RATE_HZ, np.float32)
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return Blob(out.getvalue(), "audio/wav")


_GOOD: Final[Mapping[Modality, Callable[[random.Random], TaskRequest]]] = {
    Modality.TEXT: _text,
    Modality.EMBEDDING: _embedding,
    Modality.IMAGE: _image,
    Modality.AUDIO: _audio,
}

# Refused by every engine; and those that only an engine with a model can tell.
_BAD: Final[Mapping[Modality, tuple[TaskRequest, ...]]] = {
    Modality.TEXT: (TextRequest(prompt=""), TextRequest(prompt="a", max_tokens=0)),
    Modality.EMBEDDING: (EmbeddingRequest(texts=()), EmbeddingRequest(texts=("a",), dimensions=1_000_000)),
    Modality.IMAGE: (ImageRequest(prompt="a", steps=0),),
    Modality.AUDIO: (AudioRequest(audio=Blob(b"")),),
}
_BAD_FOR_A_MODEL: Final[Mapping[Modality, tuple[TaskRequest, ...]]] = {
    Modality.TEXT: (TextRequest(prompt="long " * 20_000),),
    Modality.EMBEDDING: (),
    Modality.IMAGE: (
        ImageRequest(prompt="a", width=17),
        ImageRequest(prompt="a", width=1 << 20),
        ImageRequest(prompt="a", image=Blob(b"no picture")),
    ),
    Modality.AUDIO: (AudioRequest(audio=Blob(b"no audio, but long enough to look at")),),
}


def _bad(spec: ModelSpec) -> tuple[TaskRequest, ...]:
    has_model = not spec.engine.startswith("fake")
    return _BAD[spec.modality] + (_BAD_FOR_A_MODEL[spec.modality] if has_model else ())
