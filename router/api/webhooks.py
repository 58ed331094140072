"""/v1/webhooks and /v1/organizations/{org}/webhooks: who is told of what, the deliveries, and the secrets that sign them.

A secret is shown once, in the answer that makes it. Not about sending (router/webhooks/).
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from protos.errors import InputInvalid
from protos.types import OrganizationId
from router.api.context import (
    JSON_BODY,
    Parts,
    WithOrganization,
    WithParts,
    WithPathOrganization,
    WithPrincipal,
    WithReach,
    organization,
)
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.store.deliveries import Delivery
from router.store.webhooks import Webhook
from router.targets import URL_CHARS
from router.webhooks import filters, signing
from router.webhooks.hooks import Changes, Wanted
from router.webhooks.schedule import MAX_RETRIES

routes = APIRouter(prefix="/v1", tags=["webhooks"])

Url = Annotated[
    str, Field(max_length=URL_CHARS, description="http or https; a public address, unless the settings say")
]
Kinds = Annotated[list[str], Field(description="such as job.completed, or job.*")]
Description = Annotated[str, Field(max_length=500)]
Conditions = Annotated[  # Any: checked by hand, to name what may be asked for
    dict[str, Any], Field(description=f"all must hold: {', '.join(filters.FIELDS)}, metadata.<key>")
]
Retries = Annotated[int, Field(ge=0, le=MAX_RETRIES, strict=True, description="after the first attempt")]
Secret = Annotated[str, Field(max_length=200, description="whsec_ and 16 to 64 bytes in base64; left out: one is made")]


class WebhookBody(BaseModel):
    """Who to tell of what. `event_filter` is another name for `events`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"url": "https://example.com/hooks", "events": ["job.*"]}]}
    )

    url: Url
    events: Kinds | None = None
    event_filter: Kinds | None = None
    secret: Secret | None = None
    resource_filter: Conditions | None = None
    max_retries: Retries | None = None
    description: Description | None = None
    organization_id: str | None = None

    def wanted(self) -> Wanted:
        """Raises InputInvalid."""
        return Wanted(
            url=self.url,
            description=self.description,
            event_filter=_kinds(self.events, self.event_filter) or _missing(),
            resource_filter=_conditions(self.resource_filter),
            max_retries=MAX_RETRIES if self.max_retries is None else self.max_retries,
            secret=_secret(self.secret),
        )


class WebhookChanges(BaseModel):
    """What is left out, or null, stays as it is. An empty `resource_filter` ends it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"active": False}]})

    url: Url | None = None
    events: Kinds | None = None
    event_filter: Kinds | None = None
    secret: Secret | None = None
    resource_filter: Conditions | None = None
    max_retries: Retries | None = None
    description: Description | None = None
    active: Annotated[bool, Field(strict=True)] | None = None

    def changes(self) -> Changes:
        """Raises InputInvalid."""
        return Changes(
            url=self.url,
            description=self.description,
            event_filter=_kinds(self.events, self.event_filter),
            resource_filter=_conditions(self.resource_filter),
            max_retries=self.max_retries,
            active=self.active,
            secret=_secret(self.secret),
        )


def _kinds(events: list[str] | None, event_filter: list[str] | None) -> list[str] | None:
    if events is not None and event_filter is not None and events != event_filter:
        raise InputInvalid.at("event_filter", "differs from events, of which it is another name: send one of them")
    if events is not None:
        return filters.checked_kinds(events, "events")
    return None if event_filter is None else filters.checked_kinds(event_filter, "event_filter")


def _missing() -> list[str]:
    raise InputInvalid.at("events", "is missing: name kinds of events, such as job.completed, or job.*")


def _conditions(given: dict[str, Any] | None) -> dict[str, str] | None:  # Any: as a caller gave them
    return None if given is None else filters.checked_conditions(given, "resource_filter")


def _secret(given: str | None) -> str | None:
    return None if given in (None, signing.PLACEHOLDER) else signing.checked_secret(str(given), "secret")


class WebhookShape(BaseModel):
    id: str
    organization_id: str
    url: str
    description: str | None
    event_filter: list[str]
    events: list[str] = Field(description="another name for event_filter")
    resource_filter: dict[str, str] | None
    active: bool
    disabled_reason: str | None = Field(description="why the router disabled it")
    max_retries: int
    created_at: str

    @classmethod
    def of(cls, webhook: Webhook) -> "WebhookShape":
        return cls(**_shown(webhook))


class NewWebhookShape(WebhookShape):
    secret: str = Field(description="signs its deliveries; shown once")


def _shown(webhook: Webhook) -> dict[str, Any]:  # Any: each field has its own type
    return {
        "id": webhook.id,
        "organization_id": webhook.organization_id,
        "url": webhook.url,
        "description": webhook.description,
        "event_filter": list(webhook.event_filter),
        "events": list(webhook.event_filter),
        "resource_filter": webhook.resource_filter,
        "active": webhook.active,
        "disabled_reason": webhook.disabled_reason,
        "max_retries": webhook.max_retries,
        "created_at": iso(webhook.created_at),
    }


class DeliveryShape(BaseModel):
    """One event on its way to one webhook, and how its last attempt went."""

    id: str
    webhook_id: str
    event_id: str = Field(description="the header webhook-id: the same in every attempt and redelivery")
    event_kind: str
    job_id: str
    status: str = Field(description="pending, delivered or failed")
    status_code: int | None
    error_message: str | None
    attempt: int = Field(description="attempts made")
    next_attempt_at: str | None
    created_at: str

    @classmethod
    def of(cls, delivery: Delivery) -> "DeliveryShape":
        return cls(
            id=delivery.id,
            webhook_id=delivery.webhook_id or "",
            event_id=delivery.event_id,
            event_kind=delivery.kind,
            job_id=delivery.job_id,
            status=delivery.status,
            status_code=delivery.status_code,
            error_message=delivery.error,
            attempt=delivery.attempts,
            next_attempt_at=None if delivery.due_at is None else iso(delivery.due_at),
            created_at=iso(delivery.created_at),
        )


class SecretShape(BaseModel):
    secret: str = Field(description="shown once; the one before it signs nothing any more")


class Removed(BaseModel):
    id: str
    deleted: bool = True


_CREATED: Final = 201
_ACCEPTED: Final = 202


@routes.post("/webhooks", status_code=_CREATED, response_model=Success[NewWebhookShape], dependencies=[JSON_BODY])
async def create_webhook(
    request: Request, body: WebhookBody, parts: WithParts, principal: WithPrincipal, organization_id: WithOrganization
) -> Response:
    """It gets the events from now on."""
    owner = organization(principal, body.organization_id) if body.organization_id else organization_id
    return await _create(request, parts, owner, body)


@routes.post(
    "/organizations/{org}/webhooks",
    status_code=_CREATED,
    response_model=Success[NewWebhookShape],
    dependencies=[JSON_BODY],
)
async def create_organization_webhook(
    request: Request, body: WebhookBody, parts: WithParts, org: WithPathOrganization
) -> Response:
    """It gets the events from now on."""
    if body.organization_id not in (None, org):
        raise InputInvalid.at("organization_id", f"is not the organization of the path, {org}: leave it out")
    return await _create(request, parts, org, body)


async def _create(request: Request, parts: Parts, owner: OrganizationId, body: WebhookBody) -> Response:
    webhook, secret = await parts.webhooks.add(owner, body.wanted())
    return success(request, NewWebhookShape(**_shown(webhook), secret=secret), _CREATED)


@routes.get("/webhooks", response_model=Success[list[WebhookShape]])
async def list_webhooks(request: Request, parts: WithParts, organization_id: WithOrganization) -> Response:
    return success(request, [WebhookShape.of(webhook) for webhook in await parts.webhooks.listed(organization_id)])


@routes.get("/organizations/{org}/webhooks", response_model=Success[list[WebhookShape]])
async def list_organization_webhooks(request: Request, parts: WithParts, org: WithPathOrganization) -> Response:
    return await list_webhooks(request, parts, org)


@routes.get("/webhooks/{webhook_id}", response_model=Success[WebhookShape])
async def get_webhook(request: Request, webhook_id: str, parts: WithParts, reach: WithReach) -> Response:
    return success(request, WebhookShape.of(await parts.webhooks.one(webhook_id, reach)))


@routes.patch("/webhooks/{webhook_id}", response_model=Success[WebhookShape], dependencies=[JSON_BODY])
async def update_webhook(
    request: Request, webhook_id: str, body: WebhookChanges, parts: WithParts, reach: WithReach
) -> Response:
    """Disabled, it ends what waits for it and gets nothing; enabled, it gets the events from then on."""
    return success(request, WebhookShape.of(await parts.webhooks.change(webhook_id, reach, body.changes())))


@routes.delete("/webhooks/{webhook_id}", response_model=Success[Removed])
async def delete_webhook(request: Request, webhook_id: str, parts: WithParts, reach: WithReach) -> Response:
    """With its deliveries, also those on their way."""
    await parts.webhooks.remove(webhook_id, reach)
    return success(request, Removed(id=webhook_id))


@routes.post("/webhooks/{webhook_id}/rotate-secret", response_model=Success[SecretShape])
async def rotate_secret(request: Request, webhook_id: str, parts: WithParts, reach: WithReach) -> Response:
    """A new secret signs every attempt from now on, also of events that happened before."""
    secret = signing.new_secret()
    await parts.webhooks.change(webhook_id, reach, Changes(secret=secret))
    return success(request, SecretShape(secret=secret))


@routes.post("/organizations/{org}/webhook-secret/rotate", response_model=Success[SecretShape])
async def rotate_organization_secret(request: Request, parts: WithParts, org: WithPathOrganization) -> Response:
    """A new secret signs the calls to the webhook_urls of this organization's jobs from now on."""
    return success(request, SecretShape(secret=await parts.webhooks.rotate_secret(org)))


@routes.get("/webhooks/{webhook_id}/deliveries", response_model=Success[list[DeliveryShape]])
async def list_deliveries(
    *,
    request: Request,
    webhook_id: str,
    parts: WithParts,
    reach: WithReach,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Newest first. Those that have ended are kept for a while (FABRIC_WEBHOOK_RETENTION_S)."""
    found = await parts.webhooks.deliveries(webhook_id, reach, limit, offset)
    return success(request, [DeliveryShape.of(delivery) for delivery in found])


@routes.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=_ACCEPTED,
    response_model=Success[DeliveryShape],
)
async def redeliver(
    request: Request, webhook_id: str, delivery_id: str, parts: WithParts, reach: WithReach
) -> Response:
    """Sends the event of a delivery once more, as a new delivery with the same webhook-id."""
    return success(request, DeliveryShape.of(await parts.webhooks.redeliver(webhook_id, reach, delivery_id)), _ACCEPTED)
