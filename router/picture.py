"""A picture on a terminal: two pixels to a character, in colour."""

import io
from collections.abc import Sequence
from typing import Final

from rich.color import Color
from rich.style import Style
from rich.text import Text

_SIDE: Final = 28  # pixels, so half as many lines
_UPPER_HALF: Final = "\N{UPPER HALF BLOCK}"


def half_blocks(data: bytes) -> Sequence[Text]:
    """One line per two rows of pixels. Empty where the library that reads pictures is not installed: a router without
    local models does without."""
    try:
        from PIL import Image  # noqa: PLC0415 - of the extra `local`
    except ImportError:
        return []
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    width, height = picture.size
    row_bytes, flat = 3 * width, picture.tobytes()  # red, green, blue of each pixel, row after row

    def colour(x: int, y: int) -> Color:
        start = y * row_bytes + 3 * x
        return Color.from_rgb(*flat[start : start + 3])

    return [
        Text.assemble(
            *((_UPPER_HALF, Style(color=colour(x, y), bgcolor=colour(x, y + 1))) for x in range(width)),
        )
        for y in range(0, height - 1, 2)
    ]
