"""What a use costs, exactly, and what it will cost at most: integers in microdollars (1e-6 USD). Pure.

Not about where prices come from (catalog.py). A sum of tokens times prices is rounded up once, to the next microdollar.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Final, assert_never

from protos.types import (
    DEFAULT_MAX_TOKENS,
    AudioRequest,
    EmbeddingRequest,
    ImageRequest,
    TaskRequest,
    TextRequest,
    Usage,
)
from providers.sound import expected_seconds, most_seconds
from providers.tokens import expected_tokens, most_tokens

PER_TOKENS: Final = 1_000_000  # that a token's price is stated for, as the vendors do
_TYPICAL_INPUT_TOKENS: Final = 500  # of a request nobody has made yet, as a list of places shows it
_TYPICAL_MINUTES: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of one model, in microdollars. What a vendor does not charge for is 0."""

    input_micro: int = 0  # per million tokens, as are all of tokens
    cached_micro: int | None = None  # None: as input
    output_micro: int = 0
    reasoning_micro: int | None = None  # None: as output, of which these tokens are a part
    image_micro: int = 0  # per picture of a size that `sizes` does not name
    sizes: Mapping[str, int] = field(default_factory=dict)  # "1024x1792" -> per picture
    minute_micro: int = 0  # per minute of sound, by the second
    long_tokens: int = (
        0  # a request that reads more than so many costs what `long` says, all of it; 0: there is no such
    )
    long: "Price | None" = None
    as_of: datetime.date = datetime.date.min  # the day that it was read on
    source: str = ""  # where


def cost_micro(usage: Usage, price: Price, size: str = "") -> int:
    """What a vendor charges for `usage`. size: of the pictures, "1024x1024"."""
    if price.long is not None and usage.input_tokens > price.long_tokens:
        price = price.long
    tokens = usage.input_tokens * price.input_micro + usage.output_tokens * price.output_micro
    if usage.cached_tokens or usage.reasoning_tokens:
        tokens += _difference(usage, price)
    images = usage.images * price.sizes.get(size, price.image_micro) if usage.images else 0
    if not usage.audio_seconds:
        return images - (-tokens // PER_TOKENS)  # the same, rounded up, without fractions: routing prices every place
    sound = Fraction(str(usage.audio_seconds)) * price.minute_micro / 60
    return images + ceil(Fraction(tokens, PER_TOKENS) + sound)


def _difference(usage: Usage, price: Price) -> int:
    """What the tokens that have a price of their own cost beyond that of the others, times PER_TOKENS."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    return cached * (_or(price.cached_micro, price.input_micro) - price.input_micro) + reasoning * (
        _or(price.reasoning_micro, price.output_micro) - price.output_micro
    )


def _or(price: int | None, otherwise: int) -> int:
    return otherwise if price is None else price


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What of a model bounds the use of one request."""

    max_output_tokens: int = 0  # 0: not known
    thinking_tokens: int = 0  # beyond the default of max_tokens, for a model that thinks before it speaks
    image_tokens: Mapping[str, int] = field(default_factory=dict)  # "1024x1024" -> output tokens that are charged


def output_limit(request: TextRequest, bounds: Bounds) -> int:
    """The tokens to ask a vendor for at most: a request that states none gets the default, never the whole context."""
    wanted = request.max_tokens or DEFAULT_MAX_TOKENS + bounds.thinking_tokens
    return min(wanted, bounds.max_output_tokens) if bounds.max_output_tokens else wanted


def expected_usage(request: TaskRequest, bounds: Bounds) -> Usage:
    """What a request is assumed to use; output_tokens is the upper bound."""
    match request:
        case TextRequest():
            return Usage(
                input_tokens=expected_tokens(_texts(request)), output_tokens=output_limit(request, bounds) * request.n
            )
        case EmbeddingRequest(texts=texts):
            return Usage(input_tokens=expected_tokens(texts))
        case ImageRequest():
            return Usage(images=request.n, **_image_tokens(request, bounds, expected_tokens([request.prompt])))
        case AudioRequest(audio=audio):
            return Usage(audio_seconds=expected_seconds(audio))
        case _:
            assert_never(request)


def most_usage(request: TaskRequest, bounds: Bounds) -> Usage:
    """What a request can use at most: what a budget has to hold before the call."""
    match request:
        case TextRequest():
            return Usage(
                input_tokens=most_tokens(_texts(request)), output_tokens=output_limit(request, bounds) * request.n
            )
        case EmbeddingRequest(texts=texts):
            return Usage(input_tokens=most_tokens(texts))
        case ImageRequest():
            return Usage(images=request.n, **_image_tokens(request, bounds, most_tokens([request.prompt])))
        case AudioRequest(audio=audio):
            return Usage(audio_seconds=most_seconds(audio))
        case _:
            assert_never(request)


def size_of(request: TaskRequest) -> str:
    """ "1024x1024", the key of a picture's price; "" where none is asked for."""
    if isinstance(request, ImageRequest) and request.width and request.height:
        return f"{request.width}x{request.height}"
    return ""


def typical_cost_micro(price: Price, bounds: Bounds) -> int:
    """Of one request of medium size, for a list of places."""
    tokens = min(DEFAULT_MAX_TOKENS, bounds.max_output_tokens or DEFAULT_MAX_TOKENS) if price.output_micro else 0
    has_pictures = bool(price.image_micro or price.sizes or bounds.image_tokens)
    usage = Usage(
        input_tokens=_TYPICAL_INPUT_TOKENS if price.input_micro else 0,
        output_tokens=max(bounds.image_tokens.values(), default=tokens),
        images=1 if has_pictures else 0,
        audio_seconds=60.0 * _TYPICAL_MINUTES if price.minute_micro else 0.0,
    )
    return cost_micro(usage, price)


def _image_tokens(request: ImageRequest, bounds: Bounds, input_tokens: int) -> dict[str, int]:
    """Of a model that charges pictures by the token; else none."""
    if not bounds.image_tokens:
        return {}
    each = bounds.image_tokens.get(size_of(request), max(bounds.image_tokens.values()))
    return {"input_tokens": input_tokens, "output_tokens": each * request.n}


def _texts(request: TextRequest) -> list[str]:
    return [request.prompt] if request.prompt is not None else [message.content for message in request.messages]
