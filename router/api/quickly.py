"""The calls that come most often, with their arguments read by hand: for a small request the framework takes longer to
resolve them than all else takes. Whatever is not plainly right goes the framework's own way, which says what is wrong.

Not about what a route does (jobs.py, direct.py).
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from protos.errors import UnsupportedMediaType
from router.api.context import JSON_BODY, organization, require_json

KEY_CHARS: Final = 200  # of an idempotency key, at most
_KEY: Final = "idempotency_key"

Endpoint = Callable[..., Coroutine[Any, Any, Response]]  # Any: of the framework


def post(routes: APIRouter, path: str, body: type[BaseModel], **documented: Any) -> Callable[[Endpoint], Endpoint]:
    """As `routes.post(path, ...)`, for an endpoint of request, body, parts, principal and organization_id, and, if it
    likes, idempotency_key. Any: what else the framework takes."""

    class Quick(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:  # Any: of the framework
            carefully = super().get_route_handler()
            takes_key = _KEY in self.endpoint.__annotations__

            async def handle(request: Request) -> Response:
                arguments = await _arguments(request, body, takes_key=takes_key)
                if arguments is None:
                    return await carefully(request)
                response: Response = await self.endpoint(**arguments)
                return response

            return handle

    # Within what the routes' own class adds, such as errors of another shape.
    kind = Quick if routes.route_class is APIRoute else type("Quick", (routes.route_class, Quick), {})

    def add(endpoint: Endpoint) -> Endpoint:
        routes.add_api_route(
            path, endpoint, methods=["POST"], dependencies=[JSON_BODY], route_class_override=kind, **documented
        )
        return endpoint

    return add


async def _arguments(
    request: Request,
    body: type[BaseModel],
    *,
    takes_key: bool,
) -> dict[str, Any] | None:  # Any: by their names
    """None: something is wrong. Raises Forbidden for another organization than the caller's."""
    headers, principal = request.headers, request.state.principal
    try:
        require_json(headers.get("content-type", ""))
        checked = body.model_validate_json(await request.body())
    except (UnsupportedMediaType, ValidationError, ClientDisconnect):
        return None
    given = request.query_params.get("organization_id") or headers.get("x-organization-id")
    arguments = {
        "request": request,
        "body": checked,
        "parts": request.app.state.parts,
        "principal": principal,
        "organization_id": organization(principal, given),
    }
    if takes_key:
        key = headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= KEY_CHARS:
            return None
        arguments[_KEY] = key
    return arguments
