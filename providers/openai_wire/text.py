"""Chat completions, streamed. Source: https://platform.openai.com/docs/api-reference/chat-streaming."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from protos.errors import InputInvalid
from protos.types import (
    ChosenToken,
    ResponseFormat,
    TextDelta,
    TextRequest,
    TextResult,
    TokenLogprob,
    Usage,
)
from providers.catalog import VendorModel
from providers.event_stream import Events
from providers.openai_wire.dialect import Body, Dialect, Wrong, extras, refused
from providers.pricing import expected_usage, output_limit
from providers.remote import Answer, CallPart
from providers.tokens import expected_tokens
from providers.vendor_errors import Call, cut, failure_within

_USUAL: Final = frozenset(
    {
        "temperature",
        "top_p",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logprobs",
        "n",
        "response_format",
    }
)
_MOST_LOGPROBS: Final = 20


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
            "frequency_penalty": request.frequency_penalty != 0.0,
            "presence_penalty": request.presence_penalty != 0.0,
            "logprobs": request.logprobs is not None,
            "n": request.n != 1,
            "response_format": request.response_format is not None,
        },
        _USUAL,
    )
    yield from _wrong_new(request, dialect)


def _wrong_new(request: TextRequest, dialect: Dialect) -> Wrong:
    """What is taken within limits. Source: the ranges in https://platform.openai.com/docs/api-reference/chat/create."""
    for name in ("frequency_penalty", "presence_penalty"):
        if not -2 <= getattr(request, name) <= 2:
            yield f"params.{name}", f"is {getattr(request, name):g}: {dialect.vendor} takes -2 to 2"
    if request.logprobs is not None and request.logprobs > _MOST_LOGPROBS:
        yield "params.logprobs", f"is {request.logprobs}: {dialect.vendor} tells {_MOST_LOGPROBS} at most"
    form = request.response_format
    if form is not None and form.kind not in ("json_object", "json_schema"):
        yield "params.response_format", f"is a {form.kind}: {dialect.vendor} takes json_object and json_schema"


def body(request: TextRequest, model: VendorModel, dialect: Dialect) -> Body:
    """What is sent; a param that has no effect is left out, as some models refuse even its default."""
    sent: Body = {
        "model": model.id,
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.max_tokens is not None or model.price is not None or not dialect.bounds_itself:
        sent[dialect.max_tokens] = output_limit(request, model.bounds)
    if request.temperature != 1.0:
        sent["temperature"] = request.temperature
    if request.top_p != 1.0:
        sent["top_p"] = request.top_p
    if request.stop:
        sent["stop"] = list(request.stop)
    if request.seed is not None:
        sent["seed"] = request.seed
    sent |= _new(request)
    more = extras(
        dialect,
        model,
        {
            "top_k": request.top_k or None,
            "min_p": request.min_p or None,
            "repetition_penalty": request.repetition_penalty if request.repetition_penalty != 1.0 else None,
        },
    )
    return sent | more


def _new(request: TextRequest) -> Body:
    sent: Body = {}
    if request.frequency_penalty:
        sent["frequency_penalty"] = request.frequency_penalty
    if request.presence_penalty:
        sent["presence_penalty"] = request.presence_penalty
    if request.logprobs is not None:
        sent |= {"logprobs": True, "top_logprobs": request.logprobs}
    if request.n != 1:
        sent["n"] = request.n
    if request.response_format is not None:
        sent["response_format"] = _format(request.response_format)
    return sent


def _format(wanted: ResponseFormat) -> Body:
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    schema = {"name": wanted.name or "answer", "schema": json.loads(wanted.definition), "strict": wanted.is_strict}
    return {"type": "json_schema", "json_schema": schema}


def _messages(request: TextRequest) -> list[Body]:
    if request.prompt is not None:
        return [{"role": "user", "content": request.prompt}]
    return [{"role": message.role, "content": message.content} for message in request.messages]


async def read(events: Events, request: TextRequest, model: VendorModel, call: Call) -> AsyncIterator[CallPart]:
    """The pieces of the answers, those of one answer that came together as one, then the Answer."""
    answers: defaultdict[int, _Answer] = defaultdict(_Answer)
    used, error = None, None
    async for listed in events:
        for event in listed:
            error = error or event.get("error")
            used = event.get("usage") or used
            for choice in event.get("choices") or ():
                answers[int(choice.get("index") or 0)].take(choice)
        for number, answer in answers.items():
            if delta := answer.told(number):
                yield delta
        if error:
            raise failure_within(call, error)
    yield _whole(answers, used, request, model, call)


@dataclass(slots=True)
class _Answer:
    """One of the answers, as far as it has come."""

    texts: list[str] = field(default_factory=list)
    tokens: list[ChosenToken] = field(default_factory=list)
    reason: str | None = None
    fresh: int = 0  # texts that were told
    fresh_tokens: int = 0

    def take(self, choice: Any) -> None:  # Any: decoded JSON
        delta = choice["delta"]
        text = delta.get("content") or delta.get("refusal")
        if text:
            self.texts.append(str(text))
        if choice.get("logprobs"):
            self.tokens += [_chosen(each) for each in choice["logprobs"].get("content") or ()]
        self.reason = choice.get("finish_reason") or self.reason

    def told(self, number: int) -> TextDelta | None:
        """What came since the last time."""
        text, tokens = "".join(self.texts[self.fresh :]), self.tokens[self.fresh_tokens :]
        self.fresh, self.fresh_tokens = len(self.texts), len(self.tokens)
        return TextDelta(text, number, tuple(tokens)) if text or tokens else None


def _chosen(entry: Any) -> ChosenToken:  # Any: decoded JSON
    return ChosenToken(_scored(entry), tuple(_scored(other) for other in entry.get("top_logprobs") or ()))


def _scored(entry: Any) -> TokenLogprob:  # Any: as above
    data = bytes(entry["bytes"]) if entry.get("bytes") is not None else str(entry["token"]).encode()
    return TokenLogprob(data, float(entry["logprob"]))


def _whole(
    answers: Mapping[int, _Answer],
    used: Any,
    request: TextRequest,
    model: VendorModel,
    call: Call,  # Any: decoded JSON
) -> Answer:
    texts = ["".join(answers[number].texts) if number in answers else "" for number in range(request.n)]
    if any(number not in answers or answers[number].reason is None for number in range(request.n)):
        raise cut(call, f"it ended without a finish_reason after {sum(map(len, texts))} characters")
    results = [
        TextResult(text, _finish_reason(str(answers[number].reason), call), tuple(answers[number].tokens))
        for number, text in enumerate(texts)
    ]
    usage = _usage(used) if used is not None else _counted(request, model, "".join(texts))
    return Answer(replace(results[0], more=tuple(results[1:])), usage)


def _finish_reason(reason: str, call: Call) -> Literal["stop", "length"]:
    if reason == "content_filter":
        error = InputInvalid.at("input", f"{call.vendor} stopped the answer: its filter found the content unfit")
        error.may_have_run = True
        raise error
    return "length" if reason == "length" else "stop"


def _usage(used: Any) -> Usage:  # Any: as the server sent it
    read_details, written_details = used.get("prompt_tokens_details"), used.get("completion_tokens_details")
    return Usage(
        input_tokens=_count(used["prompt_tokens"]),
        output_tokens=_count(used["completion_tokens"]),
        cached_tokens=_count((read_details or {}).get("cached_tokens")),
        reasoning_tokens=_count((written_details or {}).get("reasoning_tokens")),
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
