"""Files to samples: every common format, and every way a file can be wrong."""

import io
import wave

import av
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


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_any_rate_and_any_channels_become_mono_at_16_kilohertz(rate_hz: int, channels: int) -> None:
    tone = np.sin(np.arange(rate_hz) * 440 * 2 * np.pi / rate_hz) * 20_000
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, 2, rate_hz, rate_hz, "NONE", ""))
        file.writeframes(np.stack([tone] * channels, axis=1).astype("<i2").tobytes())
    samples = samples_of(out.getvalue())
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=40)
    assert np.abs(samples).max() == pytest.approx(20_000 / 32_768, abs=0.02)
    crossings = np.count_nonzero(np.diff(np.signbit(samples[100:-100])))
    assert crossings == pytest.approx(880, abs=20)  # it is as high as it was


def test_a_video_without_sound_is_a_named_error() -> None:
    with pytest.raises(InputInvalid, match="has no sound, only video: send a file with an audio track"):
        samples_of(silent_video())


def silent_video() -> bytes:
    """A quarter of a second of grey, in mp4."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8))))
        container.mux(stream.encode(None))
    return out.getvalue()


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
