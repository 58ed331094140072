"""The bytes of any common audio or video file to samples, through PyAV, with every way it can go wrong named.

faster-whisper's decode_audio does the same for files that are right; it has no bound, and gives one error for all that
is wrong. A file that is cut in the middle gives the part that can be read, as players do.
"""

import io
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from protos.errors import InputInvalid

SAMPLE_RATE_HZ: Final = 16_000
MAX_AUDIO_S: Final = 4 * 3600.0  # an hour takes 350 MB while it is read: what unfolds for ever must end somewhere
Samples = NDArray[np.float32]


def samples_of(data: bytes, max_audio_s: float = MAX_AUDIO_S) -> Samples:
    """Shape (samples,), mono, 16 kHz, in [-1, 1]. Raises InputInvalid that says what is wrong with the file."""
    if not data:
        raise InputInvalid.at("audio", "is empty: send the bytes of an audio file")
    try:
        with av.open(io.BytesIO(data), mode="r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                found = ", ".join(stream.type for stream in container.streams) or "nothing"
                raise InputInvalid.at("audio", f"has no sound, only {found}: send a file with an audio track")
            sound = _bounded(_resampled(_frames(container)), max_audio_s)
    except av.error.FFmpegError as exc:
        raise InputInvalid.at("audio", _not_audio(data, exc)) from exc
    if not sound:
        raise InputInvalid.at("audio", f"has an audio track without sound in its {len(data)} bytes: is the file whole?")
    return np.multiply(np.frombuffer(sound, np.int16), 1 / 32768, dtype=np.float32)


def _not_audio(data: bytes, exc: av.error.FFmpegError) -> str:
    return (
        f"cannot be read as audio ({exc.strerror}); its {len(data)} bytes start with {data[:8]!r}: "
        "send wav, mp3, flac, ogg, m4a, webm or mp4"
    )


def _frames(container: "av.container.InputContainer") -> Iterator[AudioFrame]:
    """The frames that can be read. Packet by packet: one that is damaged, as in a cut file, takes no other with it."""
    for packet in container.demux(audio=0):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            frame.pts = None  # times in damaged files jump; the order is right
            yield frame


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[NDArray[np.int16]]:
    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    for frame in frames:
        for piece in resampler.resample(frame):
            yield piece.to_ndarray()[0]
    for piece in resampler.resample(None):
        yield piece.to_ndarray()[0]


def _bounded(pieces: Iterator[NDArray[np.int16]], max_audio_s: float) -> bytearray:
    """All pieces in one buffer: a list of them beside what they become took twice the memory of an hour."""
    sound = bytearray()
    for piece in pieces:
        sound += memoryview(piece).cast("B")
        if len(sound) > max_audio_s * SAMPLE_RATE_HZ * 2:
            raise InputInvalid.at("audio", f"is longer than {max_audio_s:.0f} s, the bound: send it in parts")
    return sound
