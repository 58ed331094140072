"""What every route works with: the parts of the running router, and who asks.

Not about how the parts are made (router/app.py).
"""

import asyncio
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Path, Query, Request

from protos.errors import Cancelled, InputInvalid, UnsupportedMediaType
from protos.types import DEFAULT_ORGANIZATION, OrganizationId
from providers.registry import ProviderRegistry
from router.api.metrics import Metrics
from router.api.sse import has_gone
from router.events import Feed
from router.outbound import Outbound
from router.runner import Runner
from router.secrets import Secrets
from router.settings import RouterSettings
from router.store.base import Store
from router.vault import Vault

Result = TypeVar("Result")

# The dependencies below are coroutines though they wait for nothing: FastAPI sends plain functions to a thread, each.


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one running router. Built and closed by app.py."""

    settings: RouterSettings
    store: Store
    feed: Feed
    providers: ProviderRegistry
    runner: Runner
    metrics: Metrics
    vault: Vault
    secrets: Secrets
    outbound: Outbound
    closing: asyncio.Event  # set when the router begins to close: streams end
    started_at: float  # on the monotonic clock


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


WithParts = Annotated[Parts, Depends(_parts)]


# ---- who asks ----

_ORGANIZATION: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def organization(given: str | None) -> OrganizationId:
    """The organization of a request; the official client's default when none is named. Raises InputInvalid."""
    if given is None:
        return DEFAULT_ORGANIZATION
    if not _ORGANIZATION.fullmatch(given):
        raise InputInvalid.at("organization_id", f"is {given[:80]!r}: use 1 to 64 letters, digits, or any of _ . : -")
    return OrganizationId(given)


async def _organization(
    organization_id: Annotated[str | None, Query(description="whose; default: the header's")] = None,
    x_organization_id: Annotated[str | None, Header(description="whose, where the query does not say")] = None,
) -> OrganizationId:
    return organization(organization_id or x_organization_id)


WithOrganization = Annotated[OrganizationId, Depends(_organization)]


async def _path_organization(
    org: Annotated[str, Path(description="the organization's id")],
) -> OrganizationId:
    return organization(org)


# Of the routes under /v1/organizations/{org}: whose things they are about.
WithPathOrganization = Annotated[OrganizationId, Depends(_path_organization)]


# ---- what is sent ----

_JSON: Final = re.compile(r"application/(.+\+)?json")


async def _require_json(content_type: Annotated[str, Header(include_in_schema=False)] = "") -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if not _JSON.fullmatch(media_type):
        shown = repr(content_type) if content_type else "missing"
        raise UnsupportedMediaType(f"the body's Content-Type is {shown}: send JSON, as application/json")


JSON_BODY: Final = Depends(_require_json)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns or raises. Raises Cancelled, and cancels it, when the caller goes away first."""
    working, gone = asyncio.create_task(work), asyncio.create_task(has_gone(request.receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the caller closed the connection")
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.wait({working, gone})
