"""How long a sound is, from its bytes alone and without decoding it. Pure.

For what is said before a call; what was heard is what the vendor reports.
"""

import io
import wave
from typing import Final

from protos.types import Blob

_USUAL_BYTES: Final = 16_000  # per second: MP3 at 128 kbit/s
_FEWEST_BYTES: Final = 750  # per second: Opus at 6 kbit/s, the lowest that speech is sent with. Source: RFC 6716, 2.1.1


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
