"""How long a sound is before anybody has decoded it."""

import io
import wave

import pytest

from protos.types import Blob
from providers.sound import expected_seconds, file_name, most_seconds


def wav(seconds: float, claimed: int | None = None) -> Blob:
    held = io.BytesIO()
    with wave.open(held, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(b"\0" * int(32_000 * seconds))
    data = bytearray(held.getvalue())
    if claimed is not None:
        data[40:44] = claimed.to_bytes(4, "little")
    return Blob(bytes(data), "audio/wav")


def test_a_wav_says_it_itself() -> None:
    assert expected_seconds(wav(2.5)) == most_seconds(wav(2.5)) == 2.5


def test_a_wav_that_claims_more_than_it_has_is_not_believed() -> None:
    assert most_seconds(wav(1.0, claimed=2**31)) < 1.1


def test_of_another_file_the_size_is_all_there_is() -> None:
    file = Blob(b"ID3" + b"\0" * 159_997, "audio/mpeg")
    assert expected_seconds(file) == 10.0
    assert most_seconds(file) > 200


def test_no_bytes_are_no_seconds() -> None:
    assert expected_seconds(Blob(b"")) == most_seconds(Blob(b"")) == 0.0


@pytest.mark.parametrize(
    ("data", "content_type", "name"),
    [
        (b"RIFF....WAVE", "application/octet-stream", "audio.wav"),
        (b"fLaC", "audio/wav", "audio.flac"),
        (b"OggS", "", "audio.ogg"),
        (b"ID3\x04", "", "audio.mp3"),
        (b"\x00\x00\x00\x20ftypM4A ", "", "audio.m4a"),
        (b"\x1aE\xdf\xa3", "", "audio.webm"),
        (b"\xff\xfb", "audio/mpeg", "audio.mp3"),
        (b"....", "audio/mp4; codecs=aac", "audio.m4a"),
        (b"....", "audio/webm", "audio.webm"),
        (b"....", "application/octet-stream", "audio.mp3"),
    ],
)
def test_a_file_is_named_for_what_it_is_before_what_it_claims(data: bytes, content_type: str, name: str) -> None:
    assert file_name(Blob(data, content_type)) == name
