"""faster-whisper-server's API, small: says the same of every sound, as long as the sound is.

Source: https://github.com/fedirz/faster-whisper-server (routers/stt.py, api_models.py); errors are FastAPI's {"detail"}.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from vendors.faults import Cut, Garbage, Plan, Status, always
from vendors.ollama_app import cut_in_half
from vendors.serving import head_of

_BYTES_PER_S = 32_000  # of sound: 16-bit, 16 kHz
_WORDS = ("The", " quick", " brown", " fox")


@dataclass
class WhisperStandIn:
    """`plan`: what the next call meets. `health`: the status of /health; 0: there is no such path."""

    models: Sequence[str] = ("Systran/faster-whisper-small",)
    plan: Plan = field(default_factory=lambda: always(None))
    health: int = 200
    lists: int = 200  # the status of /v1/models
    forms: list[dict[str, Any]] = field(default_factory=list)  # as they arrived; Any: text, or a list of it
    paths: list[str] = field(default_factory=list)
    times_listed: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.show_health, methods=["GET"]),
                Route("/v1/models", self.list_models, methods=["GET"]),
                Route("/v1/audio/transcriptions", self.hear, methods=["POST"]),
                Route("/v1/audio/translations", self.hear, methods=["POST"]),
            ]
        )

    async def show_health(self, _request: Request) -> Response:
        return PlainTextResponse("OK", status_code=self.health or 404)

    async def list_models(self, _request: Request) -> Response:
        self.times_listed += 1
        if self.lists != 200:
            return JSONResponse({"detail": "Internal Server Error"}, status_code=self.lists)
        listed = [
            {"id": name, "created": 1_700_732_060, "object": "model", "owned_by": "Systran", "language": ["en"]}
            for name in self.models
        ]
        return JSONResponse({"data": listed, "object": "list"})

    async def hear(self, request: Request) -> Response:
        async with request.form() as form:
            sound = form["file"]
            assert isinstance(sound, UploadFile)
            data = await sound.read()
            fields: dict[str, Any] = {name: form.getlist(name) for name in form if name != "file"}  # Any: as above
        self.forms.append({name: of[0] if len(of) == 1 else of for name, of in fields.items()})
        self.paths.append(request.url.path)
        fault = self.plan()
        if isinstance(fault, Status):
            return JSONResponse({"detail": fault.said}, status_code=fault.status, headers=dict(fault.headers))
        if fields["model"][0] not in {"whisper-1", *self.models}:
            return JSONResponse({"detail": f"Model {fields['model'][0]} is not installed locally"}, status_code=404)
        await head_of(fault)
        reply = _reply(len(data) / _BYTES_PER_S, "word" in fields.get("timestamp_granularities[]", []))
        if isinstance(fault, Garbage):
            return Response(fault.text, media_type="application/json")
        return cut_in_half(reply) if isinstance(fault, Cut) else JSONResponse(reply)


def _reply(duration: float, has_words: bool) -> dict[str, Any]:  # Any: JSON
    each = duration / len(_WORDS)
    words = [
        {"start": i * each, "end": (i + 1) * each, "word": word, "probability": 0.9 + i / 100}
        for i, word in enumerate(_WORDS)
    ]
    segments = [
        {
            "id": 1 + number,
            "seek": 0,
            "start": words[2 * number]["start"],
            "end": words[2 * number + 1]["end"],
            "text": "".join(_WORDS[2 * number : 2 * number + 2]),
            "tokens": [50364, 440],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.01,
            "words": words[2 * number : 2 * number + 2] if has_words else None,
        }
        for number in range(2)
    ]
    return {
        "task": "transcribe",
        "language": "en",
        "duration": duration,
        "text": "".join(_WORDS),
        "words": words if has_words else None,
        "segments": segments,
    }
