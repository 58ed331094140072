"""Speaks with espeak-ng, and makes the noises that go over it.

Needs the program espeak-ng (1.51 was used); nothing but training and evaluation does.
"""

import io
import subprocess

import numpy as np
import soundfile
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from scripts.models.audio.words import Utterance

SAMPLE_RATE_HZ = 16_000
Samples = NDArray[np.float32]


def spoken_wav(utterance: Utterance) -> bytes:
    """The WAV file that espeak-ng makes, 22,050 Hz, mono."""
    command = ["espeak-ng", "--stdout", "-v", f"{utterance.accent}+{utterance.variant}"]
    manner = ["-s", str(utterance.words_per_minute), "-p", str(utterance.pitch), "-g", str(utterance.gap)]
    return subprocess.run([*command, *manner, utterance.text], check=True, capture_output=True).stdout


def spoken(utterance: Utterance) -> Samples:
    """Shape (samples,), 16 kHz, in [-1, 1]."""
    return decode_audio(io.BytesIO(spoken_wav(utterance)), sampling_rate=SAMPLE_RATE_HZ)


def noise(rng: np.random.Generator, samples: int) -> Samples:
    """Noise of root mean square 1 whose power falls with frequency by 0 (white) to 2 (brown) times its logarithm."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    coloured = np.fft.irfft(spectrum / np.maximum(frequency, 50.0) ** rng.uniform(0.0, 1.0), samples)
    return (coloured / coloured.std()).astype(np.float32)


def with_noise(clip: Samples, rng: np.random.Generator, snr_db: float) -> Samples:
    """The clip with noise over it; `snr_db` is measured over the whole clip."""
    level = clip.std() / 10 ** (snr_db / 20)
    mixed = clip + level * noise(rng, len(clip))
    return mixed / max(1.0, float(np.abs(mixed).max()))


def flac(clip: Samples) -> bytes:
    """A file that any engine reads, 16 bit."""
    out = io.BytesIO()
    soundfile.write(out, clip, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return out.getvalue()
