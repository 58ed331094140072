"""OpenAI's API as it is published, small: echoes texts word by word, counts words as tokens, keeps books.

Source: https://platform.openai.com/docs/api-reference (chat streaming, embeddings, images, audio, errors).
"""

import asyncio
import base64
import email.parser
import email.policy
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from vendors.book import Book, Entry
from vendors.faults import Cut, Fault, Garbage, Plan, Status, always
from vendors.serving import CutHere, head_of, spoiled

from providers.echo import png

_BYTES_PER_S = 32_000  # of sound: 16-bit, 16 kHz
_CREATED = 1_760_000_000


@dataclass
class OpenAIStandIn:
    """`key`: the only one that is taken; "": any. `plan`: what the next call meets."""

    key: str = ""
    plan: Plan = field(default_factory=lambda: always(None))
    book: Book = field(default_factory=Book)
    models: Sequence[str] = ()  # that it has; empty: any but "gone"
    cached_tokens: int = 0  # of each prompt, at most
    reports_usage: bool = True
    thinks: int = 0  # reasoning tokens of each answer
    paces_s: Mapping[str, float] = field(default_factory=dict)  # model -> seconds between two words; else at once
    bodies: list[dict[str, Any]] = field(default_factory=list)  # as they arrived; Any: JSON
    headers: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
                Route("/v1/images/generations", self.images, methods=["POST"]),
                Route("/v1/audio/transcriptions", self.audio, methods=["POST"]),
                Route("/v1/audio/translations", self.audio, methods=["POST"]),
                Route("/v1/models", self.list_models, methods=["GET"]),
            ]
        )

    # ---- endpoints ----

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        refusal = self._refusal(request, body, fault)
        if refusal is not None:
            return refusal
        said = body["messages"][-1]["content"]
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 10**9
        words = said.split(" ")
        kept = words[:limit]
        read = sum(len(message["content"].split()) for message in body["messages"])
        entry = self._accept(request, body, read, len(kept) * (body.get("n") or 1) + self.thinks)
        await head_of(fault)
        reason = "length" if len(kept) < len(words) else "stop"
        wants_usage = self.reports_usage and body.get("stream_options", {}).get("include_usage", False)
        chunks = self._chunks(
            entry,
            [w if i == 0 else f" {w}" for i, w in enumerate(kept)],
            reason,
            body,
            wants_usage=wants_usage,
            is_whole=not isinstance(fault, Garbage),
        )
        error = _event({"error": self._error_body(getattr(fault, "kind", ""), getattr(fault, "said", ""))})
        return StreamingResponse(spoiled(chunks, fault, error), media_type="text/event-stream")

    async def _chunks(
        self,
        entry: Entry,
        words: list[str],
        reason: str,
        body: dict[str, Any],  # Any: JSON
        *,
        wants_usage: bool,
        is_whole: bool,
    ) -> AsyncIterator[str]:
        more = {"usage": None} if wants_usage else {}
        answers, pace_s = range(body.get("n") or 1), self.paces_s.get(entry.model, 0.0)
        for answer in answers:
            yield _chunk(entry, {"role": "assistant", "content": "", "refusal": None}, None, more, answer=answer)
        for number, word in enumerate(words):
            if pace_s:
                await asyncio.sleep(pace_s)
            for answer in answers:
                scores = _scores(word, number, body["top_logprobs"]) if body.get("logprobs") else None
                yield _chunk(entry, {"content": word}, None, more, answer=answer, scores=scores)
        for answer in answers:
            yield _chunk(entry, {}, reason, more, answer=answer)
        if wants_usage:
            yield _event({**_head(entry), "choices": [], "usage": self._usage(entry)})
        yield "data: [DONE]\n\n"
        entry.is_told = is_whole

    def _usage(self, entry: Entry) -> dict[str, Any]:  # Any: JSON
        return {
            "prompt_tokens": entry.input_tokens,
            "completion_tokens": entry.output_tokens,
            "total_tokens": entry.input_tokens + entry.output_tokens,
            "prompt_tokens_details": {"cached_tokens": entry.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.thinks, "audio_tokens": 0},
        }

    async def embeddings(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        refusal = self._refusal(request, body, fault)
        if refusal is not None:
            return refusal
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        entry = self._accept(request, body, sum(len(text.split()) for text in texts), 0)
        await head_of(fault)
        rows = [_vector(text, body.get("dimensions", 16)) for text in texts]
        encode = _as_base64 if body.get("encoding_format") == "base64" else list
        listed = [{"object": "embedding", "index": i, "embedding": encode(row)} for i, row in enumerate(rows)]
        usage = {"prompt_tokens": entry.input_tokens, "total_tokens": entry.input_tokens}
        reply = {"object": "list", "data": listed, "model": body["model"], "usage": usage}
        return _whole(reply, fault, entry)

    async def images(self, request: Request) -> Response:
        body = await request.json()
        fault = self.plan()
        refusal = self._refusal(request, body, fault)
        if refusal is not None:
            return refusal
        width, height = (int(side) for side in body.get("size", "64x64").split("x"))
        entry = self._accept(request, body, len(body["prompt"].split()), 1056 * body["n"])
        entry.images = body["n"]
        await head_of(fault)
        picture = base64.b64encode(png(width, height, b"\xff\x00\x00")).decode()
        usage = {
            "total_tokens": entry.input_tokens + entry.output_tokens,
            "input_tokens": entry.input_tokens,
            "output_tokens": entry.output_tokens,
            "input_tokens_details": {"text_tokens": entry.input_tokens, "image_tokens": 0},
        }
        return _whole({"created": _CREATED, "data": [{"b64_json": picture}] * body["n"], "usage": usage}, fault, entry)

    async def audio(self, request: Request) -> Response:
        body, sound = _form(await request.body(), request.headers["content-type"])
        fault = self.plan()
        refusal = self._refusal(request, body, fault)
        if refusal is not None:
            return refusal
        duration = len(sound) / _BYTES_PER_S
        entry = self._accept(request, body, 0, 0)
        entry.audio_seconds = int(duration)
        await head_of(fault)
        reply = {
            "task": "translate" if request.url.path.endswith("translations") else "transcribe",
            "language": "english",
            "duration": duration,
            "text": "The quick brown fox",
            "segments": [_spoken(0, 0.0, duration / 2, "The quick"), _spoken(1, duration / 2, duration, " brown fox")],
            "usage": {"type": "duration", "seconds": int(duration)},
        }
        if "word" in body.get("timestamp_granularities[]", []):
            each = duration / 4
            reply["words"] = [
                {"word": word, "start": i * each, "end": (i + 1) * each}
                for i, word in enumerate(["The", "quick", "brown", "fox"])
            ]
        return _whole(reply, fault, entry)

    async def list_models(self, request: Request) -> Response:
        refusal = self._refusal(request, {}, self.plan())
        if refusal is not None:
            return refusal
        listed = [{"id": model, "object": "model", "created": _CREATED, "owned_by": "us"} for model in self.models]
        return JSONResponse({"object": "list", "data": listed})

    # ---- what all of them do ----

    def _refusal(self, request: Request, body: dict[str, Any], fault: Fault | None) -> Response | None:  # Any: JSON
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key and given != self.key:
            return self._error(Status(401, "invalid_api_key", f"Incorrect API key provided: {given}."))
        if isinstance(fault, Status):
            return self._error(fault)
        model = body.get("model")
        if model is not None and (model == "gone" or (self.models and model not in self.models)):
            return self._error(Status(404, "model_not_found", f"The model `{model}` does not exist"))
        return None

    def _error(self, fault: Status) -> Response:
        self.book.refused.append(fault.status)
        body = {"error": self._error_body(fault.kind, fault.said)}
        return JSONResponse(body, status_code=fault.status, headers=dict(fault.headers))

    def _error_body(self, kind: str, said: str) -> dict[str, Any]:  # Any: JSON
        return {"message": said, "type": kind or "invalid_request_error", "param": None, "code": kind or None}

    def _accept(self, request: Request, body: dict[str, Any], read: int, written: int) -> Entry:  # Any: JSON
        return self.book.accept(
            Entry(
                path=request.url.path,
                model=body["model"],
                key=request.headers.get("authorization", ""),
                idempotency_key=request.headers.get("idempotency-key", ""),
                input_tokens=read,
                cached_tokens=min(self.cached_tokens, read),
                output_tokens=written,
            )
        )


def _head(entry: Entry) -> dict[str, Any]:  # Any: JSON
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": entry.model,
        "system_fingerprint": "fp_44709d6fcb",
    }


def _chunk(
    entry: Entry,
    delta: dict[str, Any],  # Any: JSON
    reason: str | None,
    more: dict[str, Any],
    *,
    answer: int = 0,
    scores: dict[str, Any] | None = None,
) -> str:
    choice = {"index": answer, "delta": delta, "logprobs": scores, "finish_reason": reason}
    return _event({**_head(entry), "choices": [choice], **more})


def _scores(word: str, number: int, top: int) -> dict[str, Any]:  # Any: JSON
    """Of one word as one token: the word itself, and others that were less likely."""
    texts = [word, *(f"{word}{other}" for other in range(1, top))][:top]
    listed = [
        {"token": text, "bytes": list(text.encode()), "logprob": -0.5 - rank - number / 100}
        for rank, text in enumerate(texts)
    ]
    own = {"token": word, "bytes": list(word.encode()), "logprob": -0.5 - number / 100}
    return {"content": [{**own, "top_logprobs": listed}], "refusal": None}


def _event(data: dict[str, Any]) -> str:  # Any: JSON
    return f"data: {json.dumps(data)}\n\n"


def _whole(reply: dict[str, Any], fault: Fault | None, entry: Entry) -> Response:  # Any: JSON
    """An answer in one piece, or the part of it that the fault lets through."""
    if isinstance(fault, Garbage):
        return Response(fault.text, media_type="application/json")
    if isinstance(fault, Cut):
        return StreamingResponse(_half(json.dumps(reply)), media_type="application/json")
    entry.is_told = True
    return JSONResponse(reply)


async def _half(text: str) -> AsyncIterator[str]:
    yield text[: len(text) // 2]
    raise CutHere


def _spoken(number: int, start: float, end: float, text: str) -> dict[str, Any]:  # Any: JSON
    return {
        "id": number,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": [50364, 440],
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }


def _vector(text: str, dimensions: int) -> list[float]:
    digest = hashlib.shake_256(text.encode()).digest(dimensions)
    length = sum((byte + 1) ** 2 for byte in digest) ** 0.5
    return [(byte + 1) / length for byte in digest]


def _as_base64(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()


def _form(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:  # Any: text, or a list of it
    """The fields of a multipart form, and the bytes of its file."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields: dict[str, Any] = {}  # Any: as above
    sound = b""
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        if part.get_filename():
            sound, fields["file"] = payload, part.get_filename()
        elif str(name).endswith("[]"):
            fields.setdefault(str(name), []).append(payload.decode())
        else:
            fields[str(name)] = payload.decode()
    return fields, sound
