"""What every route works with: the parts of the running router, and who asks.

Not about how the parts are made (router/app.py).
"""

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Path, Query, Request

from protos.errors import Cancelled, NotFound, UnsupportedMediaType
from protos.types import OrganizationId
from providers.catalog import Catalog
from providers.registry import ProviderRegistry
from router.accounts import Accounts
from router.api.metrics import Metrics
from router.api.sse import has_gone
from router.assets.attachments import Attachments
from router.assets.library import Assets
from router.assets.links import Links
from router.events import Feed
from router.keyring import Keyring
from router.outbound import Outbound
from router.principals import ANONYMOUS, Principal, organization_named
from router.runner import Runner
from router.secrets import Secrets
from router.service import RouterService
from router.settings import RouterSettings
from router.store.base import Store
from router.vault import Vault
from router.webhooks.hooks import Webhooks

Result = TypeVar("Result")

# The dependencies below are coroutines though they wait for nothing: FastAPI sends plain functions to a thread, each.


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one running router. Built and closed by app.py."""

    settings: RouterSettings
    store: Store
    feed: Feed
    providers: ProviderRegistry
    catalog: Catalog
    runner: Runner
    service: RouterService  # direct calls: of gRPC, and of the OpenAI dialect
    metrics: Metrics
    keyring: Keyring
    vault: Vault
    secrets: Secrets
    accounts: Accounts
    outbound: Outbound
    webhooks: Webhooks
    assets: Assets
    links: Links
    attachments: Attachments
    closing: asyncio.Event  # set when the router begins to close: streams end
    started_at: float  # on the monotonic clock


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


WithParts = Annotated[Parts, Depends(_parts)]


# ---- who asks ----


async def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal  # put there by the gate
    return principal


WithPrincipal = Annotated[Principal, Depends(_principal)]

_QueryOrganization = Annotated[str | None, Query(description="whose; default: the header's, then the key's own")]
_HeaderOrganization = Annotated[str | None, Header(description="whose, where the query does not say")]


def organization(principal: Principal, given: str | None) -> OrganizationId:
    """Whose things a request is about: those of the organization that it names, else the principal's. Raises
    InputInvalid, and Forbidden for another organization than the principal's."""
    if given is None or principal is ANONYMOUS:  # clients name theirs everywhere, also where no key is asked for
        return principal.act_for(None)
    return principal.act_for(organization_named(given))


async def _organization(
    principal: WithPrincipal, organization_id: _QueryOrganization = None, x_organization_id: _HeaderOrganization = None
) -> OrganizationId:
    return organization(principal, organization_id or x_organization_id)


# Of lists, and of what is created: the one organization that the request is about.
WithOrganization = Annotated[OrganizationId, Depends(_organization)]


async def _reach(
    principal: WithPrincipal, organization_id: _QueryOrganization = None, x_organization_id: _HeaderOrganization = None
) -> OrganizationId | None:
    given = organization_id or x_organization_id
    if principal is ANONYMOUS:  # a signed URL opens its thing also for a client that names an organization everywhere
        return principal.organization_id
    return principal.reach(None if given is None else organization_named(given))


# Of a single thing, found by its id: the organization that it must belong to. None: any, for an administrator (and in
# development mode) who names none; the clients name theirs only when they create.
WithReach = Annotated[OrganizationId | None, Depends(_reach)]


async def _path_organization(
    principal: WithPrincipal, org: Annotated[str, Path(description="the organization's id")]
) -> OrganizationId:
    named = organization_named(org)
    if not principal.sees(named):
        raise NotFound(f"there is no organization {named}, or the key is not of it")
    return named


# Of the routes under /v1/organizations/{org}: whose things they are about.
WithPathOrganization = Annotated[OrganizationId, Depends(_path_organization)]


def belongs(request: Request, owner: OrganizationId) -> None:
    """Tells the audit log (trail.py) whose the thing was that a call was about, where its answer does not say it."""
    request.state.owner = owner


# ---- what is sent ----

_JSON: Final = re.compile(r"application/(.+\+)?json")


def require_json(content_type: str) -> None:
    """Raises UnsupportedMediaType."""
    media_type = content_type.partition(";")[0].strip().lower()
    if not _JSON.fullmatch(media_type):
        shown = repr(content_type) if content_type else "missing"
        raise UnsupportedMediaType(f"the body's Content-Type is {shown}: send JSON, as application/json")


async def _require_json(content_type: Annotated[str, Header(include_in_schema=False)] = "") -> None:
    require_json(content_type)


JSON_BODY: Final = Depends(_require_json)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns or raises. Raises Cancelled, and cancels it, when the caller goes away first."""
    task = asyncio.current_task()
    assert task is not None, "a request outside of any task: this is a bug"
    others, is_working = task.cancelling(), True

    def leave(_: object) -> None:
        if is_working:
            task.cancel()

    watching = asyncio.create_task(has_gone(request.receive))
    watching.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if watching.done() and task.uncancel() <= others:
            raise Cancelled("the caller closed the connection") from None
        raise  # somebody else's
    finally:
        is_working = False
        watching.cancel()
