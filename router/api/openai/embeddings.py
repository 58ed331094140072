"""/v1/embeddings. Source: https://platform.openai.com/docs/api-reference/embeddings."""

import base64
import struct
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from protos.errors import InputInvalid, Internal
from protos.types import EmbeddingRequest, EmbeddingResult
from router.api.context import JSON_BODY, WithOrganization, WithParts, WithPrincipal
from router.api.openai.calls import Caller
from router.api.openai.dialect import ERRORS, Body, DialectRoute
from router.api.openai.shapes import EmbeddingList
from router.inputs import MAX_TEXTS

routes = APIRouter(prefix="/v1", tags=["openai"], route_class=DialectRoute, responses=ERRORS)


class EmbeddingBody(Body):
    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: int | None = Field(default=None, ge=1, le=2**16)
    encoding_format: Literal["float", "base64"] = "float"

    def texts(self) -> tuple[str, ...]:
        """Raises InputInvalid."""
        given = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(given) <= MAX_TEXTS:
            raise InputInvalid.at("input", f"has {len(given)} texts: send 1 to {MAX_TEXTS}")
        texts = tuple(text for text in given if isinstance(text, str))
        if len(texts) < len(given):
            raise InputInvalid.at("input", "holds token numbers: send texts, each model here has tokens of its own")
        empty = [(f"input.{index}", "is empty: leave it out") for index, text in enumerate(texts) if not text.strip()]
        if empty:
            raise InputInvalid.of(empty)
        return texts


@routes.post("/embeddings", dependencies=[JSON_BODY], response_model=EmbeddingList)
async def embed(
    request: Request, body: EmbeddingBody, parts: WithParts, organization_id: WithOrganization, principal: WithPrincipal
) -> Response:
    """One vector for each text, of length 1."""
    body.check_rest()
    asked = EmbeddingRequest(texts=body.texts(), dimensions=body.dimensions)
    outcome = await Caller(request, parts, organization_id, principal.key_id).outcome(asked, body.model)
    result, read = outcome.finished.result, outcome.finished.usage.input_tokens
    if not isinstance(result, EmbeddingResult):
        raise Internal(f"vectors were asked for and came back as {type(result).__name__}: this is a bug")
    rows = [
        {"object": "embedding", "index": index, "embedding": _shown(row, body.encoding_format)}
        for index, row in enumerate(_rows(result))
    ]
    usage = {"prompt_tokens": read, "total_tokens": read}
    return JSONResponse({"object": "list", "data": rows, "model": outcome.model, "usage": usage})


def _rows(result: EmbeddingResult) -> Iterator[bytes]:
    """Little-endian float32, as the dialect's base64 has them too."""
    size = 4 * result.dimensions
    return (result.vectors[start : start + size] for start in range(0, len(result.vectors), size))


def _shown(row: bytes, encoding: str) -> Any:  # Any: JSON
    if encoding == "base64":
        return base64.b64encode(row).decode()
    return list(struct.unpack(f"<{len(row) // 4}f", row))
