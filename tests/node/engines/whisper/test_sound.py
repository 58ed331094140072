"""Files to samples: every common format, and every way a file can be wrong."""

import io
import wave

import numpy as np
import pytest
import small_whisper
from small_whisper import FILES

from node.engines.whisper.sound import SAMPLE_RATE_HZ, samples_of
from protos.errors import InputInvalid

SPOKEN = ["spoken.wav", "spoken.mp3", "spoken.flac", "spoken.ogg", "spoken.m4a", "spoken.webm", "spoken.mp4"]
SPOKEN_S = 2.055


@pytest.mark.parametrize("name", SPOKEN)
def test_every_common_format_is_the_same_sound(name: str) -> None:
    samples = samples_of((FILES / name).read_bytes())
    assert samples.dtype == np.float32
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(SPOKEN_S, abs=0.15)
    assert loudness(samples) == pytest.approx(loudness(samples_of((FILES / "spoken.flac").read_bytes())), abs=0.12)


def loudness(samples: np.ndarray) -> np.ndarray:
    """Root mean square of each of 8 equal parts, relative to the loudest."""
    parts = np.array([np.sqrt((part**2).mean()) for part in np.array_split(samples, 8)])
    return parts / parts.max()


def test_stereo_at_44_kilohertz_becomes_mono_at_16() -> None:
    tone = np.sin(np.arange(44_100) * 440 * 2 * np.pi / 44_100) * 20_000
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 44_100, 44_100, "NONE", ""))
        file.writeframes(np.stack([tone, tone], axis=1).astype("<i2").tobytes())
    samples = samples_of(out.getvalue())
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=40)
    assert np.abs(samples).max() == pytest.approx(20_000 / 32_768, abs=0.02)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "audio: is empty: send the bytes of an audio file"),
        (b"this is a text, not a recording. " * 20, "cannot be read as audio .* start with b'this is '"),
        (bytes(4000), "cannot be read as audio"),
        ((FILES / "silent-film.mp4").read_bytes(), "has no sound, only video: send a file with an audio track"),
        ((FILES / "spoken.m4a").read_bytes()[:3000], "cannot be read as audio"),  # its index was at the end
        ((FILES / "spoken.wav").read_bytes()[:20], "cannot be read as audio|has an audio track without sound"),
        (b"RIFF" + bytes(100), "cannot be read as audio"),
    ],
    ids=["empty", "text", "zeros", "video", "cut-index", "cut-header", "broken-header"],
)
def test_a_file_that_is_no_audio_is_a_named_error(data: bytes, message: str) -> None:
    with pytest.raises(InputInvalid, match=message) as caught:
        samples_of(data)
    assert [error["path"] for error in caught.value.details["errors"]] == ["audio"]


@pytest.mark.parametrize("name", ["spoken.wav", "spoken.mp3", "spoken.flac", "spoken.ogg", "spoken.webm"])
def test_a_file_cut_in_the_middle_gives_the_part_that_is_there(name: str) -> None:
    data = (FILES / name).read_bytes()
    samples = samples_of(data[: len(data) * 9 // 10])
    assert 0.4 * SPOKEN_S < len(samples) / SAMPLE_RATE_HZ < 0.95 * SPOKEN_S


def test_a_recording_beyond_the_bound_is_refused_before_it_is_read_to_its_end() -> None:
    data = small_whisper.flac(np.zeros(30 * SAMPLE_RATE_HZ, np.float32)).data
    with pytest.raises(InputInvalid, match="audio: is longer than 20 s, the bound: send it in parts"):
        samples_of(data, max_audio_s=20.0)
    assert len(samples_of(data, max_audio_s=30.0)) == 30 * SAMPLE_RATE_HZ
