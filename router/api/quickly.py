"""The calls that come most often, answered before the framework: for a small request it takes longer to find the route and
to resolve the arguments than all else takes. Whatever is not plainly right goes the framework's own way, which says what
is wrong.

Plain ASGI, between the gate and the framework. Not about what a call does (jobs.py, direct.py).
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protos.errors import UnsupportedMediaType
from router.api.context import organization, require_json

KEY_CHARS: Final = 200  # of an idempotency key, at most
_KEY: Final = "idempotency_key"

Endpoint = Callable[..., Coroutine[Any, Any, Response]]
"""Of a POST: takes request, body, parts, principal and organization_id, and, if it likes, idempotency_key. Any: of the
framework."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What stands for the framework's route, where that is asked for (metrics.py)."""

    path: str
    endpoint: Endpoint
    body: type[BaseModel]
    takes_key: bool


class Quickly:
    """`calls`: the endpoints by their paths, which the framework has too."""

    def __init__(self, app: ASGIApp, *, calls: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._routes = {path: _route(path, endpoint) for path, endpoint in calls.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope.get("method") == "POST" else None
        if route is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(route, scope, receive, send)

    async def _answer(self, route: _Route, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if "content-length" not in request.headers:  # nobody has held such a body to its bound yet
            await self._app(scope, receive, send)
            return
        try:
            sent = await request.body()
        except ClientDisconnect:
            return
        arguments = _arguments(request, route, sent)
        if arguments is None:
            await self._app(scope, _again(sent, receive), send)
            return
        scope["route"] = route
        response = await route.endpoint(**arguments)
        await response(scope, receive, send)


def _route(path: str, endpoint: Endpoint) -> _Route:
    takes = endpoint.__annotations__
    return _Route(path, endpoint, takes["body"], _KEY in takes)


def _arguments(request: Request, route: _Route, sent: bytes) -> dict[str, Any] | None:  # Any: by their names
    """None: something is wrong. Raises Forbidden for another organization than the caller's."""
    headers, principal = request.headers, request.state.principal
    try:
        require_json(headers.get("content-type", ""))
        body = route.body.model_validate_json(sent)
    except (UnsupportedMediaType, ValidationError):
        return None
    given = request.query_params.get("organization_id") or headers.get("x-organization-id")
    arguments = {
        "request": request,
        "body": body,
        "parts": request.app.state.parts,
        "principal": principal,
        "organization_id": organization(principal, given),
    }
    if route.takes_key:
        key = headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= KEY_CHARS:
            return None
        arguments[_KEY] = key
    return arguments


def _again(sent: bytes, receive: Receive) -> Receive:
    """`receive` that begins with the body, which was read already."""
    messages: list[Message] = [{"type": "http.request", "body": sent, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
