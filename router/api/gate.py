"""What every request passes before its route: an id, the key, what it may do, how often, the bound on the body; and what
is left when a route fails.

Plain ASGI: a wrapped response would hide that the caller has gone. Not about which route wants what (access.py).
"""

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protos.errors import FabricError, Forbidden, Internal, MethodNotAllowed, NotFound, PayloadTooLarge, Unauthorized
from router.api.access import Access, Place, Rule
from router.api.envelope import failure
from router.api.metrics import Metrics
from router.api.trail import Trail
from router.ids import ulid
from router.keyring import Keyring
from router.limits import Rate, RateLimits, Taken, refused
from router.principals import ANONYMOUS, DEVELOPER, Principal
from router.settings import RouterSettings, is_loopback

log = logging.getLogger(__name__)

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")  # printable: it goes into a header and the log
_GUARDED: Final = ("/v1/", "/fairstack/")
_UNKNOWN_KEY: Final = "the key is not known here; it was accepted because this router runs in development mode"


Failing = Callable[[FabricError, str], Response]  # the answer that tells of an error; the text is the request's id


class Gate:
    """The outermost middleware of the router. `dialects`: how errors look under paths that begin so, if not enveloped."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: RouterSettings,
        metrics: Metrics,
        keyring: Keyring,
        limits: RateLimits,
        dialects: Mapping[str, Failing],
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._keyring, self._limits, self._access, self._dialects = keyring, limits, Access(), dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(scope, send, _request_id(headers), self._metrics)
        scope.setdefault("state", {})["request_id"] = answer.request_id
        try:
            bound = self._bound(self._admit(scope, headers, answer))
            bound.check(headers.get("content-length", ""))
            await self._app(scope, bound.held_to(receive), answer.send)
        except FabricError as error:
            await self._failing(scope["path"])(error, answer.request_id)(scope, receive, answer.send)
        except Exception:  # the top of a request: a defect becomes a 500, and its stack goes to the log alone
            log.exception("request %s failed: %s %s", answer.request_id, scope["method"], scope["path"])
            await answer.fail(receive)

    def _failing(self, path: str) -> Failing:
        return next((failing for begin, failing in self._dialects.items() if path.startswith(begin)), failure)

    def _admit(self, scope: Scope, headers: Headers, answer: "_Answer") -> Rule:
        """The rule that lets the request in. Puts the principal into its state. Raises what refuses it."""
        if self._keyring.is_development:
            _check_host(headers.get("host", ""))
        place = self._access.place(scope["path"])
        rule = place.rules.get(scope["method"]) if place else None
        principal = self._principal(scope, headers, rule)
        scope["state"]["principal"] = principal
        if principal is DEVELOPER and "authorization" in headers:
            answer.add([("x-fabric-warning", _UNKNOWN_KEY)])
        self._count(principal, answer)
        if place is None:
            raise NotFound(f"there is no {scope['path'][:200]}: /docs lists what there is")
        if rule is None:
            answer.add([("allow", ", ".join(sorted(place.rules)))])
            raise MethodNotAllowed(f"{scope['path']} does not take {scope['method']}: /docs lists what it takes")
        if rule.action is not None:
            answer.follow(rule.action, place, principal)
        if rule.scope is not None and principal is not ANONYMOUS:
            principal.require(rule.scope)
        return rule

    def _bound(self, rule: Rule) -> "_Bound":
        if rule.takes_files:
            return _Bound(self._settings.asset_bytes, "FABRIC_ASSET_BYTES")
        return _Bound(self._settings.body_bytes, "FABRIC_BODY_BYTES")

    def _principal(self, scope: Scope, headers: Headers, rule: Rule | None) -> Principal:
        """Raises Unauthorized. A path that there is not asks for a key too: what there is is nobody else's business."""
        is_open = not rule.asks_for_key if rule else not scope["path"].startswith(_GUARDED)
        if rule is not None and rule.may_be_signed and "signature" in QueryParams(scope["query_string"]):
            return ANONYMOUS
        try:
            return self._keyring.check(headers.get("authorization", ""))
        except Unauthorized:
            if is_open:
                return ANONYMOUS
            raise

    def _count(self, principal: Principal, answer: "_Answer") -> None:
        """Raises RateLimited."""
        if principal.key_id is None or principal.rate_per_s is None:
            return
        rate = Rate(principal.rate_per_s)
        taken = self._limits.take(principal.key_id, rate)
        answer.add(_limit_headers(taken))
        if taken.retry_after_s is not None:
            raise refused(rate, taken.retry_after_s)


class _Answer:
    """The answer on its way out: marks it with the request's id, measures it, and knows whether it has begun."""

    def __init__(self, scope: Scope, send: Send, request_id: str, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self.request_id = request_id
        self._received_at = time.perf_counter()
        self._has_begun = False
        self._headers: list[tuple[str, str]] = []

    def add(self, headers: Iterable[tuple[str, str]]) -> None:
        """To the answer, whatever it will be."""
        self._headers.extend(headers)

    def follow(self, action: str, place: Place, principal: Principal) -> None:
        """Has the audit log know of the answer before the caller does."""
        self._send = Trail(self._scope, self._send, action, place, principal).send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in self._headers:
                headers[name] = value
            self._metrics.observe(self._scope, message["status"], time.perf_counter() - self._received_at)
        await self._send(message)

    async def fail(self, receive: Receive) -> None:
        """A 500, unless the answer has begun: then the connection ends, as there is nothing else left to say."""
        if not self._has_begun:
            error = Internal(f"something broke here: the log has it under request {self.request_id}")
            await failure(error, self.request_id)(self._scope, receive, self.send)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{ulid(time.time())}"


def _check_host(host: str) -> None:
    """Without keys only this machine is served. A web page elsewhere could still reach us through a name of its own that
    points to 127.0.0.1 (DNS rebinding); the Host header then has that name. Raises Forbidden."""
    name = urlsplit(f"//{host}").hostname
    if name is not None and not is_loopback(name):
        raise Forbidden(f"the Host header names {name!r}: use localhost or 127.0.0.1, or set FABRIC_API_KEYS")


def _limit_headers(taken: Taken) -> Iterable[tuple[str, str]]:
    """Of the key's bucket; reset in seconds from now."""
    yield "x-ratelimit-limit", str(taken.limit)
    yield "x-ratelimit-remaining", str(taken.remaining)
    yield "x-ratelimit-reset", str(math.ceil(taken.reset_s))


@dataclass(frozen=True, slots=True)
class _Bound:
    """How large a body may be, and what raises that."""

    limit_bytes: int
    variable: str

    def check(self, content_length: str) -> None:
        """Raises PayloadTooLarge for a body that states its length."""
        if content_length.isdecimal() and int(content_length) > self.limit_bytes:
            raise PayloadTooLarge(self._message)

    def held_to(self, receive: Receive) -> Receive:
        """`receive` that ends a body over the limit, also one that has not stated its length."""
        seen_bytes = 0

        async def bounded() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > self.limit_bytes:
                raise HTTPException(413, self._message)  # the one exception that FastAPI lets through here
            return message

        return bounded

    @property
    def _message(self) -> str:
        return f"the body is over {self.limit_bytes} bytes: send less, or raise {self.variable}"
