"""How long a sound is and what kind of file, from its bytes alone and without decoding it. Pure.

For what is said before a call; what was heard is what the vendor reports.
"""

import io
import wave
from typing import Final

from protos.types import Blob

_USUAL_BYTES: Final = 16_000  # per second: MP3 at 128 kbit/s
_FEWEST_BYTES: Final = 750  # per second: Opus at 6 kbit/s, the lowest that speech is sent with. Source: RFC 6716, 2.1.1


_HEADS: Final = ((b"RIFF", "wav"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"ID3", "mp3"), (b"\x1aE\xdf\xa3", "webm"))
_TYPES: Final = {
    "mpeg": "mp3",
    "mp4": "m4a",
    "x-m4a": "m4a",
    "aac": "m4a",
    "x-wav": "wav",
    "wave": "wav",
    "x-flac": "flac",
}
_KNOWN: Final = frozenset({"wav", "flac", "ogg", "mp3", "webm", "m4a"})


def file_name(audio: Blob) -> str:
    """A name with the ending that vendors tell the format by: of its first bytes, else of what it claims to be."""
    data = audio.data
    head = next((kind for magic, kind in _HEADS if data.startswith(magic)), "")
    if not head and data[4:8] == b"ftyp":
        head = "m4a"
    claimed = audio.content_type.partition(";")[0].rpartition("/")[2]
    claimed = _TYPES.get(claimed, claimed)
    return f"audio.{head or (claimed if claimed in _KNOWN else 'mp3')}"


def expected_seconds(audio: Blob) -> float:
    """What a WAV says of itself; of other files what their size makes likely."""
    return _wav_seconds(audio) or len(audio.data) / _USUAL_BYTES


def most_seconds(audio: Blob) -> float:
    return _wav_seconds(audio) or len(audio.data) / _FEWEST_BYTES


def _wav_seconds(audio: Blob) -> float:
    """0 where it is none, or says more than there are bytes for."""
    try:
        with wave.open(io.BytesIO(audio.data)) as sound:
            frames = min(sound.getnframes(), len(audio.data) // (sound.getnchannels() * sound.getsampwidth()))
            return float(frames / sound.getframerate())
    except (wave.Error, EOFError, ZeroDivisionError):
        return 0.0
