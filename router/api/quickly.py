"""POST /v1/jobs with its arguments read by hand: the framework takes longer to resolve them than all else takes to store
the job. Whatever is not plainly right goes the framework's own way, which says what is wrong.

Not about what the route does (jobs.py).
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from protos.errors import UnsupportedMediaType
from router.api.context import organization, require_json
from router.api.job_shapes import JobBody

KEY_CHARS: Final = 200  # of an idempotency key, at most


class QuickRoute(APIRoute):
    """A route whose endpoint has the arguments of `create_job`, and is documented by them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:  # Any: of the framework
        carefully = super().get_route_handler()

        async def handle(request: Request) -> Response:
            arguments = await _arguments(request)
            return await carefully(request) if arguments is None else await self.endpoint(**arguments)

        return handle


async def _arguments(request: Request) -> dict[str, Any] | None:  # Any: by their names
    """None: something is wrong. Raises Forbidden for another organization than the caller's."""
    headers, principal = request.headers, request.state.principal
    key = headers.get("idempotency-key")
    try:
        require_json(headers.get("content-type", ""))
        body = JobBody.model_validate_json(await request.body())
    except (UnsupportedMediaType, ValidationError, ClientDisconnect):
        return None
    if key is not None and not 0 < len(key) <= KEY_CHARS:
        return None
    given = request.query_params.get("organization_id") or headers.get("x-organization-id")
    return {
        "request": request,
        "body": body,
        "parts": request.app.state.parts,
        "principal": principal,
        "organization_id": organization(principal, given),
        "idempotency_key": key,
    }
