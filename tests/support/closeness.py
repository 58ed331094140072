"""When two results are the same but for rounding."""

import io

from PIL import Image, ImageChops

from protos.types import EmbeddingResult, GeneratedImage, ImageResult, TaskResult

CLOSE = 1e-5  # of a vector's numbers
LEVELS = 1  # of 255, of a pixel


def is_close(found: TaskResult, expected: TaskResult) -> bool:
    """Equal, but for the rounding of vectors and of pixels."""
    if isinstance(found, ImageResult) and isinstance(expected, ImageResult):
        return all(_is_close_picture(a, b) for a, b in zip(found.images, expected.images, strict=True))
    if isinstance(found, EmbeddingResult) and isinstance(expected, EmbeddingResult):
        rows = [memoryview(one.vectors).cast("f") for one in (found, expected)]
        return rows[0].shape == rows[1].shape and all(abs(a - b) < CLOSE for a, b in zip(*rows, strict=True))
    return found == expected


def _is_close_picture(found: GeneratedImage, expected: GeneratedImage) -> bool:
    pictures = [Image.open(io.BytesIO(one.data)) for one in (found, expected)]
    off = max(most for _, most in ImageChops.difference(*pictures).getextrema())
    return off <= LEVELS and pictures[0].info == pictures[1].info
