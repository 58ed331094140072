"""Real sound files, made without a library."""

import io
import math
import struct
import wave

RATE_HZ = 16_000


def tone_wav(seconds: float = 1.0, pitch_hz: float = 440.0) -> bytes:
    """16 bit, mono."""
    samples = (round(8000 * math.sin(2 * math.pi * pitch_hz * t / RATE_HZ)) for t in range(int(seconds * RATE_HZ)))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return out.getvalue()
