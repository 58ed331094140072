"""Anthropic's Messages API as it is published, small: echoes word by word, counts words as tokens, keeps books.

Source: https://docs.claude.com/en/api/messages-streaming, https://docs.claude.com/en/api/errors.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from vendors.book import Book, Entry
from vendors.faults import Fault, Garbage, Plan, Status, always
from vendors.serving import head_of, spoiled


@dataclass
class AnthropicStandIn:
    """`key`: the only one that is taken; "": any. `plan`: what the next call meets."""

    key: str = ""
    plan: Plan = field(default_factory=lambda: always(None))
    book: Book = field(default_factory=Book)
    cached_tokens: int = 0  # of each prompt, at most
    thinks: int = 0  # tokens of thinking in each answer
    stop_reason: str = ""  # instead of end_turn
    bodies: list[dict[str, Any]] = field(default_factory=list)  # as they arrived; Any: JSON
    headers: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/messages", self.messages, methods=["POST"])])

    async def messages(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        refusal = self._refusal(request, body, fault)
        if refusal is not None:
            return refusal
        words = body["messages"][-1]["content"].split(" ")
        kept = words[: body["max_tokens"]]
        read = sum(len(message["content"].split()) for message in body["messages"])
        read += len(body.get("system", "").split())
        entry = self.book.accept(
            Entry(
                path=request.url.path,
                model=body["model"],
                key=_key(request),
                idempotency_key="",
                input_tokens=read,
                cached_tokens=min(self.cached_tokens, read),
                output_tokens=len(kept) + self.thinks,
            )
        )
        await head_of(fault)
        reason = self.stop_reason or ("max_tokens" if len(kept) < len(words) else "end_turn")
        error = _event(
            "error",
            error={"type": getattr(fault, "kind", "") or "api_error", "message": getattr(fault, "said", "")},
        )
        chunks = self._events(
            entry,
            [w if i == 0 else f" {w}" for i, w in enumerate(kept)],
            reason,
            is_whole=not isinstance(fault, Garbage),
        )
        return StreamingResponse(spoiled(chunks, fault, error), media_type="text/event-stream")

    async def _events(self, entry: Entry, words: list[str], reason: str, *, is_whole: bool) -> AsyncIterator[str]:
        usage = {
            "input_tokens": entry.input_tokens - entry.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": entry.cached_tokens,
            "output_tokens": 1,
            "service_tier": "standard",
        }
        message = {
            "id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyS",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": entry.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        yield _event("message_start", message=message)
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")
        for word in words:
            yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
        yield _event("content_block_stop", index=0)
        used: dict[str, Any] = {"output_tokens": entry.output_tokens}  # Any: JSON
        if self.thinks:
            used["output_tokens_details"] = {"thinking_tokens": self.thinks}
        yield _event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=used)
        yield _event("message_stop")
        entry.is_told = is_whole

    def _refusal(self, request: Request, body: dict[str, Any], fault: Fault | None) -> Response | None:  # Any: JSON
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        given = _key(request)
        if self.key and given != self.key:
            return self._error(Status(401, "authentication_error", f"invalid x-api-key {given}"))
        if isinstance(fault, Status):
            return self._error(fault)
        if body["model"] == "gone":
            return self._error(Status(404, "not_found_error", "model: gone"))
        return None

    def _error(self, fault: Status) -> Response:
        self.book.refused.append(fault.status)
        error = {"type": fault.kind or "invalid_request_error", "message": fault.said}
        body = {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}
        return JSONResponse(body, status_code=fault.status, headers=dict(fault.headers))


def _key(request: Request) -> str:
    """In either header; where there are both, this one counts."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-api-key", bearer)


def _event(kind: str, **data: Any) -> str:  # Any: JSON
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"
