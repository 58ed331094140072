"""Pictures from a text. Source: https://platform.openai.com/docs/api-reference/images/create."""

import base64
import struct
from typing import Any, Final

from protos.types import GeneratedImage, ImageRequest, ImageResult, Usage
from providers.catalog import VendorModel
from providers.openai_wire.dialect import Body, Dialect, Wrong, refused
from providers.pricing import size_of
from providers.remote import Answer


def wrong(request: ImageRequest, model: VendorModel, dialect: Dialect) -> Wrong:
    if not request.prompt:
        yield "input.prompt", "is empty: say what to draw"
    if request.negative_prompt:
        yield "input.negative_prompt", f"is not taken by {dialect.vendor}: say in the prompt what to leave out"
    if request.image is not None:
        yield "input.image", f"is not taken by {dialect.vendor} here: it draws from text alone"
    if (request.width is None) != (request.height is None):
        yield "params.width", "comes without its height, or the other way round: give both, or none"
    elif model.sizes and size_of(request) not in ("", *model.sizes):
        yield "params.width", f"and height are {size_of(request)}: {model.id} draws {', '.join(model.sizes)}"
    if model.max_images and request.n > model.max_images:
        yield "params.n", f"is {request.n}: {model.id} draws {model.max_images} at most in one call"
    yield from refused(
        dialect,
        model,
        {
            "steps": request.steps is not None,
            "guidance_scale": request.guidance_scale is not None,
            "strength": request.strength is not None,
            "seed": request.seed is not None,
            "scheduler": request.scheduler is not None,
            "preview_every": request.preview_every is not None,
        },
        frozenset(),
    )


def body(request: ImageRequest, model: VendorModel) -> Body:
    sent: Body = {"model": model.id, "prompt": request.prompt, "n": request.n}
    if size_of(request):
        sent["size"] = size_of(request)
    if model.quality:
        sent["quality"] = model.quality
    if not model.is_inline:
        sent["response_format"] = "b64_json"  # else a URL, which we would have to fetch
    return sent


def answer(reply: Any, request: ImageRequest) -> Answer:  # Any: the client does not check what it parses
    """Raises ValueError, TypeError or AttributeError where the reply is malformed."""
    pictures = [base64.b64decode(each.b64_json, validate=True) for each in reply.data]
    if not pictures:
        raise ValueError("no picture")
    images = tuple(_image(picture, request) for picture in pictures)
    used = getattr(reply, "usage", None)
    usage = Usage(
        images=len(images),
        input_tokens=int(used.input_tokens) if used else 0,
        output_tokens=int(used.output_tokens) if used else 0,
    )
    return Answer(ImageResult(images), usage)


_TYPES: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))


def _image(picture: bytes, request: ImageRequest) -> GeneratedImage:
    kinds = [kind for head, kind in _TYPES if picture.startswith(head)]
    if not kinds:
        raise ValueError(f"a picture that begins with {picture[:8]!r}")
    width, height = request.width or 0, request.height or 0
    if kinds[0] == "image/png":  # its own word counts. Source: ISO/IEC 15948, the IHDR chunk
        width, height = struct.unpack(">II", picture[16:24])
    return GeneratedImage(picture, kinds[0], width, height, seed=0)
