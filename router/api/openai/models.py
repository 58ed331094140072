"""/v1/models: what can be named as `model`. Source: https://platform.openai.com/docs/api-reference/models."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from protos.errors import ModelNotFound
from router.api.context import Parts, WithParts
from router.api.openai.dialect import ERRORS, DialectRoute
from router.api.openai.shapes import ModelList, ModelShape

routes = APIRouter(prefix="/v1/models", tags=["openai"], route_class=DialectRoute, responses=ERRORS)


@routes.get("", response_model=ModelList)
async def list_models(parts: WithParts) -> Response:
    return JSONResponse({"object": "list", "data": list(_known(parts).values())})


@routes.get("/{model:path}", response_model=ModelShape)
async def get_model(model: str, parts: WithParts) -> Response:
    known = _known(parts)
    if model not in known:
        raise ModelNotFound(f"there is no model {model[:200]!r}: there are {', '.join(sorted(known))}")
    return JSONResponse(known[model])


def _known(parts: Parts) -> dict[str, dict[str, Any]]:  # Any: JSON
    """By name; a model that several places have is listed once, as the first's; then the aliases of what is there."""
    found: dict[str, dict[str, Any]] = {}
    served: set[str] = set()  # aliases
    for snapshot in parts.providers.snapshots():
        for offer in snapshot.offers:
            found.setdefault(offer.model, _shown(offer.model, snapshot.id))
            served.update(offer.aliases)
    return found | {alias.id: _shown(alias.id, "alias") for alias in parts.providers.aliases if alias.id in served}


def _shown(name: str, owner: str) -> dict[str, Any]:  # Any: JSON
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
