"""What all routes of the OpenAI dialect share: their errors, their streams, their strict bodies.

Source: the error object and the event stream of https://platform.openai.com/docs/api-reference.
"""

import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from protos.errors import HTTP_STATUS, FabricError, InputInvalid
from router.api.envelope import failure_headers, translated

_KINDS: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_FIRST_OF_SERVER: Final = 500

# For APIRouter(responses=...): the shape of every error of these routes.
ERRORS: Final[dict[int | str, dict[str, Any]]] = {  # Any: an OpenAPI fragment
    "default": {
        "description": "Any error: `error.code` says which, `error.message` what to do",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["message", "type", "param", "code"],
                            "properties": {
                                "message": {"type": "string"},
                                "type": {"type": "string"},
                                "param": {"type": ["string", "null"]},
                                "code": {"type": ["string", "null"]},
                            },
                        }
                    },
                }
            }
        },
    }
}


class DialectRoute(APIRoute):
    """A route whose errors are in the dialect."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except (FabricError, RequestValidationError, HTTPException) as error:
                return failure(translated(request, error))

        return handled


def failure(error: FabricError) -> JSONResponse:
    return JSONResponse(error_json(error), HTTP_STATUS[error.code], dict(failure_headers(error)))


def error_json(error: FabricError) -> dict[str, Any]:  # Any: JSON
    status = HTTP_STATUS[error.code]
    kind = "server_error" if status >= _FIRST_OF_SERVER else _KINDS.get(status, "invalid_request_error")
    wrong: Any = error.details.get("errors") or [{}]  # Any: details are JSON of any shape
    return {"error": {"message": error.message, "type": kind, "param": wrong[0].get("path"), "code": error.code}}


class Body(BaseModel):
    """A body of the dialect. `IGNORED`: fields that may be sent and change nothing here, such as names for accounting."""

    model_config = ConfigDict(extra="allow")
    IGNORED: ClassVar[frozenset[str]] = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier"})
    NEUTRAL: ClassVar[Mapping[str, object]] = {}  # fields that may be sent with this value alone: it asks for nothing

    def check_rest(self) -> None:
        """Raises InputInvalid for each field that would be dropped in silence."""
        wrong = [
            (name, _refusal(self.NEUTRAL, name, value))
            for name, value in (self.model_extra or {}).items()
            if name not in self.IGNORED and value is not None and not _is_neutral(self.NEUTRAL, name, value)
        ]
        if wrong:
            raise InputInvalid.of(wrong)


def _is_neutral(neutral: Mapping[str, object], name: str, value: object) -> bool:
    return name in neutral and value == neutral[name]


def _refusal(neutral: Mapping[str, object], name: str, value: object) -> str:
    if name in neutral:
        return f"is {str(value)[:60]!r}: only {neutral[name]!r} is served here, or leave it out"
    return "is not served here: leave it out"


# ---- streams ----

END: Final = b"data: [DONE]\n\n"


def chunk(data: Mapping[str, Any]) -> bytes:  # Any: JSON
    """One event of a stream."""
    return f"data: {json.dumps(data, allow_nan=False)}\n\n".encode()


async def told(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The chunks; an error that comes after the first becomes the last one, as the official client reads it."""
    async with aclosing(chunks) as pieces:
        try:
            async for piece in pieces:
                yield piece
        except FabricError as error:
            yield chunk(error_json(error))
