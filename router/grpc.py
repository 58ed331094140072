"""The router's gRPC door: the node's contract on port 3002, so that a control plane needs one client for both.

Not about what its calls do (service.py), nor about HTTP (app.py).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from node.contract import Service
from node.rpc import Context, NodeServicer
from node.server import Server
from node.uploads import Uploads
from protos.errors import InputInvalid
from router.behalf import OnBehalf
from router.limits import Rate, RateLimits
from router.principals import Principal
from router.service import RouterService
from router.settings import RouterSettings

CheckKey: TypeAlias = Callable[[str], Principal]
"""Whom the `authorization` of a call stands for, "" when it has none. Raises Unauthorized, RateLimited."""

_MESSAGE_BYTES: Final = 16 << 20  # as a node's; larger blobs are staged
_UPLOAD_EXPIRY_S: Final = 300.0  # as a node's
_UPLOADS: Final = 8  # bodies of the largest size that are staged at once
_DRAIN_S: Final = 30.0  # for a Drain that names no timeout
_STOP_S: Final = 5.0  # for tasks that still run when the router ends, as its HTTP calls have
_HEALTH_S: Final = 1.0  # between looks at how the places are


def held_to_rates(check_key: CheckKey, limits: RateLimits) -> CheckKey:
    """The same, each call taken from the bucket of its key: one bucket for calls here and requests over HTTP."""

    def check(authorization: str) -> Principal:
        principal = check_key(authorization)
        if principal.key_id is not None and principal.rate_per_s is not None:
            limits.check(principal.key_id, Rate(principal.rate_per_s))
        return principal

    return check


@asynccontextmanager
async def door(settings: RouterSettings, service: RouterService, check_key: CheckKey) -> AsyncGenerator[str, None]:
    """Serves while it is entered; gives where. Health and reflection need no key, as /healthz and /openapi.json.

    Raises Conflict when the port is taken, InputInvalid when the certificate cannot be read.
    """

    def service_of(context: Context) -> Service:
        metadata = dict(context.invocation_metadata() or ())
        return OnBehalf(check_key(str(metadata.get("authorization", ""))), service)

    uploads = Uploads(_UPLOADS * settings.body_bytes, _UPLOAD_EXPIRY_S, "FABRIC_BODY_BYTES")
    server = Server(
        NodeServicer(service_of, uploads, _DRAIN_S),
        f"{_bracketed(settings.grpc_host)}:{settings.grpc_port}",
        _MESSAGE_BYTES,
        elsewhere="with --grpc-port or FABRIC_GRPC_PORT",
        credentials=_credentials(settings),
    )
    await server.start()
    following = asyncio.create_task(_follow(service, server), name="gRPC health")
    try:
        yield server.target
    finally:
        await service.drain(_STOP_S)
        following.cancel()
        await asyncio.wait({following})
        await server.stop()
        uploads.close()


async def _follow(service: RouterService, server: Server) -> None:
    async for status in service.watch(_HEALTH_S):
        await server.show_health(status)


# ---- where and how ----


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(settings: RouterSettings) -> grpc.ServerCredentials | None:
    if settings.grpc_certificate is None or settings.grpc_private_key is None:
        return None
    key = _read("FABRIC_GRPC_PRIVATE_KEY", settings.grpc_private_key)
    return grpc.ssl_server_credentials([(key, _read("FABRIC_GRPC_CERTIFICATE", settings.grpc_certificate))])


def _read(variable: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputInvalid.at(variable, f"is {str(path)!r}, which cannot be read ({error.strerror})") from error
