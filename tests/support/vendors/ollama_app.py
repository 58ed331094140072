"""Ollama's API as it is published, small: echoes texts word by word, counts words as tokens.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md (tags, show, generate, chat, embed, pull) and server/routes.go
(the words of its errors).
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from vendors.faults import Cut, Fault, Garbage, Plan, Status, always
from vendors.serving import CutHere, head_of, spoiled

from providers.echo import unit_vector

_MADE = "2026-08-04T08:52:19.385406455-07:00"
_CONTEXT = 8  # words of a text to embed


@dataclass(frozen=True)
class Model:
    """One that it has. `capabilities` None: a server that does not tell them."""

    capabilities: tuple[str, ...] | None = ("completion", "tools")
    family: str = "llama"
    context_length: int = 131_072
    remote_host: str = ""  # of a cloud model
    dimensions: int = 16
    honours_dimensions: bool = True


@dataclass
class OllamaStandIn:
    """`plan`: what the next call meets; lists are never spoiled by it, but by `is_down`."""

    models: dict[str, Model]
    plan: Plan = field(default_factory=lambda: always(None))
    is_down: bool = False
    thinks: bool = False  # sends what it thinks ahead of what it says
    counts_prompts: bool = True
    library: dict[str, Model] = field(default_factory=dict)  # what it can pull
    bodies: list[dict[str, Any]] = field(default_factory=list)  # of calls, as they arrived; Any: JSON
    pulled: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)  # set by a call
    left: asyncio.Event = field(default_factory=asyncio.Event)  # set when a caller went away within an answer

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/tags", self.tags, methods=["GET"]),
                Route("/api/show", self.show, methods=["POST"]),
                Route("/api/generate", self.generate, methods=["POST"]),
                Route("/api/chat", self.chat, methods=["POST"]),
                Route("/api/embed", self.embed, methods=["POST"]),
                Route("/api/pull", self.pull, methods=["POST"]),
            ]
        )

    # ---- what it has ----

    async def tags(self, _request: Request) -> Response:
        if self.is_down:
            return _error(503, "server is starting")
        listed = [
            {
                "name": name,
                "model": name,
                "modified_at": _MADE,
                "size": 3_825_819_519,
                "digest": f"sha-{name}",
                "details": self._details(model),
                **({"remote_host": model.remote_host} if model.remote_host else {}),
            }
            for name, model in self.models.items()
        ]
        return JSONResponse({"models": listed})

    async def show(self, request: Request) -> Response:
        model = self.models.get((await request.json())["model"])
        if model is None:
            return _error(404, "model not found")
        shown: dict[str, Any] = {  # Any: JSON
            "modelfile": "# Modelfile",
            "details": self._details(model),
            "model_info": {
                "general.architecture": model.family,
                f"{model.family}.context_length": model.context_length,
            },
        }
        if model.capabilities is not None:
            shown["capabilities"] = list(model.capabilities)
        if model.remote_host:
            shown |= {"remote_host": model.remote_host, "remote_model": "gpt-oss:120b"}
        return JSONResponse(shown)

    def _details(self, model: Model) -> dict[str, Any]:  # Any: JSON
        return {"format": "gguf", "family": model.family, "families": [model.family], "parameter_size": "3.2B"}

    async def pull(self, request: Request) -> Response:
        name = (await request.json())["model"]
        self.pulled.append(name)
        return StreamingResponse(self._pulling(name), media_type="application/x-ndjson")

    async def _pulling(self, name: str) -> AsyncIterator[str]:
        yield _line({"status": "pulling manifest"})
        if name not in self.library:
            yield _line({"error": "pull model manifest: file does not exist"})
            return
        yield _line({"status": "downloading abc", "digest": "abc", "total": 100, "completed": 100})
        self.models[f"{name}:latest"] = self.library[name]
        yield _line({"status": "success"})

    # ---- text ----

    async def generate(self, request: Request) -> Response:
        body = await request.json()
        return await self._text(body, body["prompt"], [body["prompt"]], lambda text: {"response": text})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        read = [message["content"] for message in body["messages"]]
        return await self._text(body, read[-1], read, lambda text: {"message": {"role": "assistant", "content": text}})

    async def _text(self, body: dict[str, Any], said: str, read: list[str], shape: Any) -> Response:  # Any: JSON
        fault = self.plan()
        refusal = self._refusal(body, fault)
        if refusal is not None:
            return refusal
        await head_of(fault)
        chunks = self._chunks(body, said, sum(len(text.split()) for text in read), shape)
        failed = _line({"error": getattr(fault, "said", "")})
        return StreamingResponse(spoiled(chunks, fault, failed), media_type="application/x-ndjson")

    async def _chunks(self, body: dict[str, Any], said: str, read: int, shape: Any) -> AsyncIterator[str]:  # Any: JSON
        head = {"model": body["model"], "created_at": _MADE}
        words = said.split(" ")
        kept = words[: body["options"].get("num_predict", len(words))]
        is_over = False
        try:
            if self.thinks:
                yield _line({**head, "response": "", "thinking": "hm", "message": {"role": "assistant", "content": ""}})
            for index, word in enumerate(kept):
                yield _line({**head, **shape(word if index == 0 else f" {word}"), "done": False})
            counted = {"prompt_eval_count": read} if self.counts_prompts else {}
            reason = "length" if len(kept) < len(words) else "stop"
            last = {"done": True, "done_reason": reason, "total_duration": 4_883_583_458, "load_duration": 1_334_875}
            yield _line(
                {**head, **shape(""), **last, **counted, "eval_count": len(kept), "eval_duration": 4_799_921_000}
            )
            is_over = True
        finally:
            if not is_over:
                self.left.set()

    # ---- vectors ----

    async def embed(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        refusal = self._refusal(body, fault)
        if refusal is not None:
            return refusal
        if not body.get("truncate", True) and any(len(text.split()) > _CONTEXT for text in body["input"]):
            return _error(400, "input length exceeds maximum context length")
        await head_of(fault)
        model = self.models[body["model"]]
        wanted = body.get("dimensions") if model.honours_dimensions else None
        rows = [_vector(text, wanted or model.dimensions) for text in body["input"]]
        counted = sum(len(text.split()) for text in body["input"])
        reply = {"model": body["model"], "embeddings": rows, "total_duration": 14_143_917, "prompt_eval_count": counted}
        if isinstance(fault, Garbage):
            return Response(fault.text, media_type="application/json")
        if isinstance(fault, Cut):
            return cut_in_half(reply)
        return JSONResponse(reply)

    def _refusal(self, body: dict[str, Any], fault: Fault | None) -> Response | None:  # Any: JSON
        self.bodies.append(body)
        self.arrived.set()
        if isinstance(fault, Status):
            return _error(fault.status, fault.said, dict(fault.headers))
        if body["model"] not in self.models:
            return _error(404, f"model '{body['model']}' not found")
        return None


def _line(data: dict[str, Any]) -> str:  # Any: JSON
    return json.dumps(data) + "\n"


def _error(status: int, said: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": said}, status_code=status, headers=headers)


def _vector(text: str, dimensions: int) -> list[float]:
    return list(struct.unpack(f"<{dimensions}f", unit_vector(text, dimensions)))


def cut_in_half(reply: dict[str, Any]) -> Response:  # Any: JSON
    """An answer whose connection breaks in its middle."""
    return StreamingResponse(_half(json.dumps(reply)), media_type="application/json")


async def _half(text: str) -> AsyncIterator[str]:
    yield text[: len(text) // 2]
    raise CutHere
