"""Anthropic's Messages API through the official client. Source: https://docs.claude.com/en/api/messages-streaming.

Not about which models there are (prices.toml) nor about the provider around it (anthropic.py).
"""

import asyncio
import importlib
import importlib.util
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from protos.errors import FabricError, InputInvalid
from protos.types import TaskRequest, TextDelta, TextRequest, TextResult, Usage
from providers.catalog import VendorModel
from providers.event_stream import Events, events_of
from providers.pricing import output_limit
from providers.remote import Answer, CallPart, VendorCall
from providers.vendor_errors import (
    Call,
    cut,
    failure_within,
    malformed,
    reading,
    retry_after_s,
    status_error,
    unreachable,
)

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"
_CONNECT_S: Final = 5.0  # a vendor that takes longer to shake hands is as good as away
_KEYS: Final = 64  # organizations whose client is kept: to make one takes half a millisecond
_POOL_S: Final = 10.0  # for one of the client's 1,000 connections
# The last version of the API that takes temperature, top_p and top_k; the one that the client sends refuses them all.
# Source: https://docs.claude.com/en/api/versioning
_HEADERS: Final = {"anthropic-version": "2023-06-01"}


class AnthropicWire:
    """An Api. Its client is imported at the start: a router without it does without."""

    manners: Final = "anthropic"

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._client: asyncio.Task[AsyncAnthropic] | None = None
        self._by_key: dict[str, AsyncAnthropic] = {}  # over the same connections

    async def open(self) -> None:
        if importlib.util.find_spec("anthropic") is None:
            raise InputInvalid.at(
                KEY_VARIABLE,
                "needs the package `anthropic`, which is not installed: pip install 'fabric-node[vendors]'",
            )
        # Its imports take seconds, which no start has to wait for: the first call does.
        self._client = asyncio.create_task(asyncio.to_thread(self._made), name="client of anthropic")

    def _made(self) -> "AsyncAnthropic":
        importlib.import_module("anthropic.resources.messages")  # else imported on the loop, by the first call
        library: Any = importlib.import_module("anthropic")  # Any: a module
        client: AsyncAnthropic = library.AsyncAnthropic(
            api_key="given with each call",
            base_url=self._base_url,
            max_retries=0,  # ours are in wrappers, where they know whether a call may be paid twice
            timeout=library.Timeout(None, connect=_CONNECT_S, pool=_POOL_S),  # the rest is bounded by wrappers
            http_client=library.DefaultAioHttpClient(follow_redirects=False),  # keys go to the host that is named
        )
        return client

    async def close(self) -> None:
        if self._client is not None:
            await (await self._client).close()
            self._client, self._by_key = None, {}

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        errors = list(wrong(_text_only(request), model))
        if errors:
            raise InputInvalid.of(errors)

    async def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        assert self._client is not None, "anthropic was called before its start: this is a bug"
        client = await asyncio.shield(self._client)  # a caller that goes does not take it along
        told = Call(vendor=call.model.vendor, model=call.model.id, key_variable=KEY_VARIABLE, key=call.key)
        sent = body(_text_only(call.request), call.model)
        with _translated(told, self._base_url):
            streaming = self._of(client, call.key).messages.with_streaming_response
            async with streaming.create(**sent, extra_headers=_HEADERS) as response:
                with reading(told):
                    async with aclosing(events_of(response.iter_bytes())) as events:
                        async for part in read(events, told):
                            yield part

    def _of(self, client: "AsyncAnthropic", key: str) -> "AsyncAnthropic":
        """The client with that key. Not as a header of the call: the library logs those at DEBUG."""
        if key not in self._by_key:
            if len(self._by_key) >= _KEYS:
                self._by_key.clear()
            self._by_key[key] = client.with_options(api_key=key)
        return self._by_key[key]


def _text_only(request: TaskRequest) -> TextRequest:
    assert isinstance(request, TextRequest), "a model of another modality in anthropic's list: this is a bug"
    return request


# ---- the wire; pure ----


def wrong(request: TextRequest, model: VendorModel) -> Iterator[tuple[str, str]]:
    """(path, message) of each field that is not taken."""
    if not request.prompt and not any(message.role != "system" for message in request.messages):
        yield "input.prompt", "is empty: give a prompt, or messages of a user"
    if request.temperature > 1.0:
        yield "params.temperature", f"is {request.temperature:g}: anthropic takes 0 to 1"
    limit = model.bounds.max_output_tokens
    if request.max_tokens is not None and limit and request.max_tokens > limit:
        yield "params.max_tokens", f"is {request.max_tokens}: {model.id} writes {limit} at most"
    refused = {
        "temperature": request.temperature != 1.0 and "temperature" in model.refuses,
        "top_p": request.top_p != 1.0 and "top_p" in model.refuses,
        "top_k": request.top_k != 0 and "top_k" in model.refuses,
        "seed": request.seed is not None,
        "min_p": request.min_p != 0.0,
        "repetition_penalty": request.repetition_penalty != 1.0,
        "frequency_penalty": request.frequency_penalty != 0.0,
        "presence_penalty": request.presence_penalty != 0.0,
        "logprobs": request.logprobs is not None,
        "n": request.n != 1,
        "response_format": request.response_format is not None,
    }
    for name, is_set in refused.items():
        if is_set:
            yield f"params.{name}", "is not taken by anthropic: leave it out, or use a model on this box"


def body(request: TextRequest, model: VendorModel) -> dict[str, Any]:  # Any: JSON
    """What is sent; a param that has no effect is left out, as some models refuse two of them together."""
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    turns = [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"]
    sent: dict[str, Any] = {  # Any: as above
        "model": model.id,
        "max_tokens": output_limit(request, model.bounds),
        "messages": turns if request.prompt is None else [{"role": "user", "content": request.prompt}],
        "stream": True,
    }
    if system:
        sent["system"] = system
    if request.stop:
        sent["stop_sequences"] = list(request.stop)
    sampling = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    without = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    chosen = {name: value for name, value in sampling.items() if value != without[name]}
    return {**sent, "extra_body": chosen} if chosen else sent  # the client has no arguments for them any more


async def read(events: Events, call: Call) -> AsyncIterator[CallPart]:
    """The pieces of the text, those that came together as one, then the Answer."""
    answer = _Answer()
    async for listed in events:
        told = len(answer.texts)
        for event in listed:
            answer.take(event)
        if text := "".join(answer.texts[told:]):
            yield TextDelta(text)
        if answer.error is not None:
            raise failure_within(call, answer.error)
    text = "".join(answer.texts)
    if answer.reason is None or not answer.has_stopped:
        raise cut(call, f"it ended without message_stop after {len(text)} characters")
    yield Answer(TextResult(text, _finish_reason(answer.reason, call)), _usage(answer.counts))


@dataclass(slots=True)
class _Answer:
    """As far as it has come."""

    texts: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    reason: str | None = None
    has_stopped: bool = False
    error: object = None

    def take(self, event: Any) -> None:  # Any: decoded JSON
        match event["type"]:
            case "message_start":
                _count(self.counts, event["message"]["usage"])
            case "content_block_delta":
                if event["delta"]["type"] == "text_delta":
                    self.texts.append(str(event["delta"]["text"]))
            case "message_delta":
                _count(self.counts, event["usage"])
                self.reason = event["delta"]["stop_reason"] or self.reason
            case "message_stop":
                self.has_stopped = True
            case "error":
                self.error = event["error"]
            case _:
                pass  # blocks begin and end; new kinds may come, as the vendor's docs say


def _count(counts: dict[str, int], usage: Any) -> None:  # Any: decoded JSON, of cumulative counts
    for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"):
        value = usage.get(name)
        if value is not None:
            counts[name] = int(value)
            if counts[name] < 0:
                raise ValueError(f"{value} {name}")
    thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
    if thinking is not None:
        counts["thinking_tokens"] = int(thinking)


def _usage(counts: dict[str, int]) -> Usage:
    """What it had cached is not in its input_tokens, but in ours."""
    cached = counts.get("cache_read_input_tokens", 0)
    return Usage(
        input_tokens=counts["input_tokens"] + cached + counts.get("cache_creation_input_tokens", 0),
        cached_tokens=cached,
        output_tokens=counts["output_tokens"],
        reasoning_tokens=counts.get("thinking_tokens", 0),
    )


def _finish_reason(reason: str, call: Call) -> Literal["stop", "length"]:
    if reason == "refusal":
        error = InputInvalid.at("input", f"{call.vendor} refused to answer: {call.model} found the content unfit")
        error.may_have_run = True
        raise error
    return "length" if reason in ("max_tokens", "model_context_window_exceeded") else "stop"


# ---- what the client raises ----


@contextmanager
def _translated(call: Call, base_url: str) -> Iterator[None]:
    """Raises the FabricError of whatever the client raises within."""
    import anthropic  # noqa: PLC0415  # imported at the start
    import httpx2  # noqa: PLC0415  # comes with it

    from providers.aio import was_sent  # noqa: PLC0415  # imports it

    try:
        yield
    except anthropic.APIStatusError as error:
        raise _of_status(call, error) from None  # its words may repeat the key
    except anthropic.APIConnectionError as error:
        why = str(error.__cause__) or type(error.__cause__).__name__
        ours = cut(call, why) if was_sent(error.__cause__) else unreachable(call, base_url, why)
        raise ours from None  # its words may repeat the key
    except anthropic.AnthropicError as error:
        raise malformed(call, str(error)) from None  # its words may repeat the key
    except httpx2.HTTPError as error:  # while the stream was read
        raise cut(call, str(error) or type(error).__name__) from None  # its words may repeat the key


def _of_status(call: Call, error: "APIStatusError") -> FabricError:
    body: Any = error.body if isinstance(error.body, dict) else {}  # Any: what the vendor sent
    inner = body.get("error") if isinstance(body.get("error"), dict) else {}
    kind, said = str(inner.get("type") or ""), str(inner.get("message") or error.body or "")
    wait_s = retry_after_s(error.response.headers, time.time())
    return status_error(call, error.response.status_code, said, kind=kind, retry_after_s=wait_s)
