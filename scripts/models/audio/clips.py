"""The bank of training clips: spoken once, kept as mel power, so that every batch can mix, shift and cover them anew.

Not about what a batch looks like (batches.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from scripts.models.audio.speech import SAMPLE_RATE_HZ, Samples, noise, spoken
from scripts.models.audio.words import TAUGHT_VARIANTS, WORDS, any_utterance

MELS = 80
FRAME_SAMPLES = 160  # 10 ms
AUDIBLE = 1e-4  # of the loudest frame's power: where speech begins and ends
TAIL = 4  # frames of what follows speech that are kept; batches add the rest
LogPower = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Clip:
    words: Sequence[int]  # indices into WORDS
    power: LogPower  # (80, frames): logarithm of mel power to base 10
    start: int  # frames: where speech begins and ends
    end: int


def log_power(samples: Samples) -> NDArray[np.float32]:
    """What Whisper's features are made of, before they are levelled to their maximum. Shape (80, frames)."""
    features: NDArray[np.float32] = FeatureExtractor()(samples, padding=0)
    return features * 4.0 - 4.0  # Source: the last line of faster_whisper.feature_extractor


def make_clips(rng: Random, count: int) -> list[Clip]:
    """`count` clips of the taught voices, one to four words each."""
    clips = []
    for _ in range(count):
        utterance = any_utterance(rng, TAUGHT_VARIANTS, longest=rng.choice((1, 4, 4, 4)))
        power = log_power(spoken(utterance))
        loudness = (10.0**power).sum(axis=0)
        audible = np.flatnonzero(loudness > AUDIBLE * loudness.max())
        words = tuple(WORDS.index(word) for word in utterance.words)
        start, end = int(audible[0]), int(audible[-1]) + 1
        clips.append(Clip(words, power[:, : end + TAIL].astype(np.float16), start, end))
    return clips


def make_noises(rng: np.random.Generator, count: int) -> list[LogPower]:
    """`count` noises of 30 s."""
    return [log_power(noise(rng, 30 * SAMPLE_RATE_HZ)).astype(np.float16) for _ in range(count)]


def save_clips(clips: Sequence[Clip], path: Path) -> None:
    """One file, so that a second training run need not speak again."""
    arrays = {f"power{index}": clip.power for index, clip in enumerate(clips)}
    marks = {f"marks{index}": np.array([clip.start, clip.end, *clip.words]) for index, clip in enumerate(clips)}
    np.savez(path, **arrays, **marks)


def load_clips(path: Path) -> list[Clip]:
    with np.load(path) as file:
        marks = [file[f"marks{index}"].tolist() for index in range(len(file.files) // 2)]
        return [Clip(tuple(row[2:]), file[f"power{index}"], row[0], row[1]) for index, row in enumerate(marks)]
