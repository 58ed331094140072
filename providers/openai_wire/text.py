"""Chat completions, streamed. Source: https://platform.openai.com/docs/api-reference/chat-streaming."""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from protos.errors import InputInvalid
from protos.types import TextDelta, TextRequest, TextResult, Usage
from providers.catalog import VendorModel
from providers.openai_wire.dialect import Body, Dialect, Wrong, extras, refused
from providers.pricing import expected_usage, output_limit
from providers.remote import Answer, CallPart
from providers.tokens import expected_tokens
from providers.vendor_errors import Call, cut

_USUAL: Final = frozenset({"temperature", "top_p", "stop", "seed"})


def wrong(request: TextRequest, model: VendorModel, dialect: Dialect) -> Wrong:
    if not request.prompt and not request.messages:
        yield "input.prompt", "is empty: give a prompt, or messages"
    limit = model.bounds.max_output_tokens
    if request.max_tokens is not None and limit and request.max_tokens > limit:
        yield "params.max_tokens", f"is {request.max_tokens}: {model.id} writes {limit} at most"
    if dialect.stop_limit and len(request.stop) > dialect.stop_limit:
        yield "params.stop", f"has {len(request.stop)} texts: {dialect.vendor} takes {dialect.stop_limit} at most"
    yield from refused(
        dialect,
        model,
        {
            "temperature": request.temperature != 1.0,
            "top_p": request.top_p != 1.0,
            "stop": bool(request.stop),
            "seed": request.seed is not None,
            "top_k": request.top_k != 0,
            "min_p": request.min_p != 0.0,
            "repetition_penalty": request.repetition_penalty != 1.0,
        },
        _USUAL,
    )


def body(request: TextRequest, model: VendorModel, dialect: Dialect) -> Body:
    """What is sent; a param that has no effect is left out, as some models refuse even its default."""
    sent: Body = {
        "model": model.id,
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
        dialect.max_tokens: output_limit(request, model.bounds),
    }
    if request.temperature != 1.0:
        sent["temperature"] = request.temperature
    if request.top_p != 1.0:
        sent["top_p"] = request.top_p
    if request.stop:
        sent["stop"] = list(request.stop)
    if request.seed is not None:
        sent["seed"] = request.seed
    more = extras(
        dialect,
        model,
        {
            "top_k": request.top_k or None,
            "min_p": request.min_p or None,
            "repetition_penalty": request.repetition_penalty if request.repetition_penalty != 1.0 else None,
        },
    )
    return {**sent, "extra_body": more} if more else sent


def _messages(request: TextRequest) -> list[Body]:
    if request.prompt is not None:
        return [{"role": "user", "content": request.prompt}]
    return [{"role": message.role, "content": message.content} for message in request.messages]


async def read(
    chunks: AsyncIterator[Any], request: TextRequest, model: VendorModel, call: Call
) -> AsyncIterator[CallPart]:
    """The pieces of the text, then the Answer. chunks: the client's; Any: it does not check what it parses."""
    said: list[str] = []
    reason, used = None, None
    async for chunk in chunks:
        used = getattr(chunk, "usage", None) or used
        for choice in chunk.choices or ():
            text = choice.delta.content or getattr(choice.delta, "refusal", None)
            if text:
                said.append(text)
                yield TextDelta(text)
            reason = choice.finish_reason or reason
    text = "".join(said)
    if reason is None:
        raise cut(call, f"it ended without a finish_reason after {len(text)} characters")
    usage = _usage(used) if used is not None else _counted(request, model, text)
    yield Answer(TextResult(text, _finish_reason(reason, call)), usage)


def _finish_reason(reason: str, call: Call) -> Literal["stop", "length"]:
    if reason == "content_filter":
        error = InputInvalid.at("input", f"{call.vendor} stopped the answer: its filter found the content unfit")
        error.may_have_run = True
        raise error
    return "length" if reason == "length" else "stop"


def _usage(used: Any) -> Usage:  # Any: as the server sent it
    read_details, written_details = used.prompt_tokens_details, used.completion_tokens_details
    return Usage(
        input_tokens=_count(used.prompt_tokens),
        output_tokens=_count(used.completion_tokens),
        cached_tokens=_count(getattr(read_details, "cached_tokens", 0)),
        reasoning_tokens=_count(getattr(written_details, "reasoning_tokens", 0)),
    )


def _count(value: Any) -> int:  # Any: as the server sent it; TypeError and ValueError make it a malformed answer
    count = int(value or 0)
    if count < 0:
        raise ValueError(f"{count} tokens")
    return count


def _counted(request: TextRequest, model: VendorModel, text: str) -> Usage:
    """Where a server reports no usage: those that cost nothing often do not."""
    expected = expected_usage(request, model.bounds)
    return Usage(input_tokens=expected.input_tokens, output_tokens=expected_tokens([text]))
