"""The answer to an audited call, held back until the audit log has it: whoever sees that it is done can read who did it.

Not about which calls are audited (access.py) nor where the log is kept (router/store/audit.py).
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Scope, Send

from protos.errors import HTTP_STATUS, Code, FabricError
from protos.types import DEFAULT_ORGANIZATION, OrganizationId
from router.api.access import Place
from router.principals import Principal
from router.store import audit
from router.store.audit import Deed
from router.store.base import Records

log = logging.getLogger(__name__)

_OK: Final = range(200, 300)
_OUTCOMES: Final = {HTTP_STATUS[Code.FORBIDDEN]: "denied"}


class Trail:
    """A `send` that records the deed between the end of the route and the begin of its answer."""

    def __init__(self, scope: Scope, send: Send, action: str, place: Place, principal: Principal) -> None:
        self._scope, self._send = scope, send
        self._action, self._place, self._principal = action, place, principal
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start, self._body = message, b""
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        assert self._start is not None, "a body came before its start: this is a bug"
        await self._record(self._start["status"])
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": self._body})

    async def _record(self, status: int) -> None:
        request_id = self._scope["state"]["request_id"]
        told = _told(self._body) if status in _OK else {}
        params = {**_named(self._scope), **self._place.params} if status in _OK else self._place.params
        deed = deed_of(self._principal, self._action, params, told, status)
        store: Records = self._scope["app"].state.parts.store
        try:
            await store.change(
                lambda connection, now: audit.record(connection, now, replace(deed, request_id=request_id))
            )
        except FabricError:  # what was done is done: its caller is told so
            log.exception("request %s, %s, could not be written to the audit log", request_id, self._action)


def deed_of(principal: Principal, action: str, params: Mapping[str, str], told: Mapping[str, Any], status: int) -> Deed:
    """What a call and its answer say about it. `params`: of the path, and org: whom a call that succeeded named.
    `told`: the answer's data, empty when it failed. Any: JSON. Pure."""
    ids = [value for name, value in params.items() if name != "org"]
    return Deed(
        organization_id=principal.organization_id or _organization(told, params if status in _OK else {}),
        actor=principal.key_id or principal.name,
        action=action,
        resource_id=ids[-1][:200] if ids else told.get("id") or told.get("name"),
        outcome="success" if status in _OK else _OUTCOMES.get(status, "failure"),
        status=status,
    )


def _organization(told: Mapping[str, Any], params: Mapping[str, str]) -> OrganizationId:  # Any: JSON
    """Of what an administrator did; it lies with the default organization where the call does not say."""
    return OrganizationId(told.get("organization_id") or params.get("org") or DEFAULT_ORGANIZATION)


def _named(scope: Scope) -> dict[str, str]:
    """The organization whose thing a request was about, as its route tells, or that it names (context.py)."""
    named = (
        scope["state"].get("owner")
        or QueryParams(scope["query_string"]).get("organization_id")
        or Headers(scope=scope).get("x-organization-id")
    )
    return {"org": named} if named else {}


def _told(body: bytes) -> Mapping[str, Any]:  # Any: JSON
    answer = json.loads(body) if body else {}
    data = answer.get("data", answer) if isinstance(answer, dict) else {}
    return data if isinstance(data, dict) else {}
