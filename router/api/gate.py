"""What every request passes before its route: an id, the key, the bound on the body; and what is left when a route fails.

Plain ASGI: a wrapped response would hide that the caller has gone. Not about routes nor shapes.
"""

import hmac
import logging
import re
import time
from typing import Final
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from protos.errors import FabricError, Forbidden, Internal, PayloadTooLarge, Unauthorized
from router.api.envelope import failure
from router.api.metrics import Metrics
from router.settings import RouterSettings, is_loopback

log = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")  # printable: it goes into a header and the log
_OPEN_PATHS: Final = frozenset({"/v1/providers/estimate"})  # needs no key


class Gate:
    """The outermost middleware of the router."""

    def __init__(self, app: ASGIApp, settings: RouterSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(scope, send, _request_id(headers), self._metrics)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            self._check(scope, headers)
            await self._app(scope, _bounded(receive, self._settings.body_bytes), answer.send)
        except FabricError as error:
            await failure(error, answer.request_id)(scope, receive, answer.send)
        except Exception:  # the top of a request: a defect becomes a 500, and its stack goes to the log alone
            log.exception("request %s failed: %s %s", answer.request_id, scope["method"], scope["path"])
            await answer.fail(receive)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raises Forbidden, Unauthorized, PayloadTooLarge."""
        path = scope["path"]
        if not self._settings.api_keys:
            _check_host(headers.get("host", ""))
        if self._settings.api_keys and path.startswith("/v1/") and path not in _OPEN_PATHS:
            _check_key(headers.get("authorization", ""), self._settings.api_keys)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.body_bytes:
            raise PayloadTooLarge(_too_large(self._settings.body_bytes))


class _Answer:
    """The answer on its way out: marks it with the request's id, measures it, and knows whether it has begun."""

    def __init__(self, scope: Scope, send: Send, request_id: str, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self.request_id = request_id
        self._received_at = time.perf_counter()
        self._has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
            self._metrics.observe(self._scope, message["status"], time.perf_counter() - self._received_at)
        await self._send(message)

    async def fail(self, receive: Receive) -> None:
        """A 500, unless the answer has begun: then the connection ends, as there is nothing else left to say."""
        if not self._has_begun:
            error = Internal(f"something broke here: the log has it under request {self.request_id}")
            await failure(error, self.request_id)(self._scope, receive, self.send)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{ULID()}"


def _check_host(host: str) -> None:
    """Without keys only this machine is served. A web page elsewhere could still reach us through a name of its own that
    points to 127.0.0.1 (DNS rebinding); the Host header then has that name. Raises Forbidden."""
    name = urlsplit(f"//{host}").hostname
    if name is not None and not is_loopback(name):
        raise Forbidden(f"the Host header names {name!r}: use localhost or 127.0.0.1, or set FABRIC_API_KEYS")


def _check_key(authorization: str, keys: tuple[str, ...]) -> None:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise Unauthorized("a key is missing: send the header Authorization: Bearer <key>")
    # Every key is compared, each in constant time: how long it takes tells nothing about any of them.
    if not any([hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]):  # noqa: C419
        raise Unauthorized("the key is not known here: check FABRIC_API_KEYS of the router")


def _bounded(receive: Receive, limit_bytes: int) -> Receive:
    """`receive` that ends a body over the limit, also one that has not stated its length."""
    seen_bytes = 0

    async def bounded() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > limit_bytes:
            raise HTTPException(413, _too_large(limit_bytes))  # the one exception that FastAPI lets through here
        return message

    return bounded


def _too_large(limit_bytes: int) -> str:
    return f"the body is over {limit_bytes} bytes: send less, or raise FABRIC_BODY_BYTES"
