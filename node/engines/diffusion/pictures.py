"""Pictures as files: reads an input picture into pixels, writes what was drawn as PNG. Runs on the CPU pool."""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_INPUT_PIXELS: Final = 64_000_000  # a larger one takes some 200 MB to open
# What Pillow raises for files that are no picture, cut or broken.
# Source: the plugins of Pillow; SyntaxError is a broken PNG.
_UNREADABLE: Final = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, struct.error,
)  # fmt: skip
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)  # raised before anything is unpacked


class UnreadableError(ValueError):
    """The bytes are no picture that can be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """An input picture, opened and upright."""

    image: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def pixels(self, width: int, height: int) -> NDArray[np.float32]:
        """(3, height, width), -1 to 1; resized as diffusers' VaeImageProcessor does it."""
        fitting = (
            self.image if self.size == (width, height) else self.image.resize((width, height), Image.Resampling.LANCZOS)
        )
        return 2.0 * (np.asarray(fitting, np.float32).transpose(2, 0, 1) / 255.0) - 1.0


def open_source(data: bytes) -> Source:
    """Raises UnreadableError. Of several frames the first counts."""
    if not data:
        raise UnreadableError("is empty: send the bytes of a picture")
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        if opened.width * opened.height > MAX_INPUT_PIXELS:
            raise UnreadableError(f"has {opened.width} x {opened.height} pixels: send at most {MAX_INPUT_PIXELS:,}")
        return Source(ImageOps.exif_transpose(opened).convert("RGB"))
    except UnreadableError:
        raise
    except _BOMBS as exc:
        raise UnreadableError(f"claims too many pixels ({exc}): send at most {MAX_INPUT_PIXELS:,}") from exc
    except _UNREADABLE as exc:
        message = f"{len(data)} bytes cannot be read as a picture ({exc}): send a whole {', '.join(FORMATS)} file"
        raise UnreadableError(message) from exc


def png(pixels: NDArray[np.float32], said: Mapping[str, str]) -> bytes:
    """pixels: (height, width, 3), 0 to 1. `said` goes into text chunks: what the picture was made from."""
    notes = PngInfo()
    for keyword, text in said.items():
        notes.add_text(keyword, text)  # beyond Latin-1 it becomes an iTXt chunk by itself
    file = io.BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(file, "PNG", pnginfo=notes)
    return file.getvalue()
