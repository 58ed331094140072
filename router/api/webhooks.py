"""/v1/webhooks and /v1/organizations/{org}/webhooks: who is told of what, the deliveries, and the secrets that sign them.

A secret is shown once, in the answer that makes it. Not about sending (router/webhooks/).
"""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

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
    belongs,
    organization,
)
from router.api.envelope import Success, success
from router.api.jobs import existing
from router.api.webhook_shapes import (
    DeliveryShape,
    NewWebhookShape,
    Removed,
    SecretShape,
    WebhookBody,
    WebhookChanges,
    WebhookShape,
)
from router.webhooks import signing
from router.webhooks.hooks import Changes

routes = APIRouter(prefix="/v1", tags=["webhooks"])

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
    return success(request, NewWebhookShape.made(webhook, secret), _CREATED)


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
    belongs(request, (await parts.webhooks.one(webhook_id, reach)).organization_id)
    await parts.webhooks.remove(webhook_id, reach)
    return success(request, Removed(id=webhook_id))


@routes.post("/webhooks/{webhook_id}/rotate-secret", response_model=Success[SecretShape])
async def rotate_secret(request: Request, webhook_id: str, parts: WithParts, reach: WithReach) -> Response:
    """A new secret signs every attempt from now on, also of events that happened before."""
    secret = signing.new_secret()
    belongs(request, (await parts.webhooks.change(webhook_id, reach, Changes(secret=secret))).organization_id)
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


@routes.get("/jobs/{job_id}/deliveries", response_model=Success[list[DeliveryShape]], tags=["jobs"])
async def list_deliveries_of_job(
    *,
    request: Request,
    job_id: str,
    parts: WithParts,
    reach: WithReach,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Those of its events to its webhook_url and to webhooks, newest first."""
    job = await existing(parts, job_id, reach)
    found = await parts.webhooks.deliveries_of_job(job.id, limit, offset)
    return success(request, [DeliveryShape.of(delivery) for delivery in found])


@routes.post(
    "/jobs/{job_id}/deliveries/{delivery_id}/redeliver",
    status_code=_ACCEPTED,
    response_model=Success[DeliveryShape],
    tags=["jobs"],
)
async def redeliver_of_job(
    request: Request, job_id: str, delivery_id: str, parts: WithParts, reach: WithReach
) -> Response:
    """Sends the event of a delivery once more, as a new delivery with the same webhook-id."""
    job = await existing(parts, job_id, reach)
    belongs(request, job.request.organization_id)
    return success(request, DeliveryShape.of(await parts.webhooks.redeliver_of_job(job.id, delivery_id)), _ACCEPTED)


@routes.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=_ACCEPTED,
    response_model=Success[DeliveryShape],
)
async def redeliver(
    request: Request, webhook_id: str, delivery_id: str, parts: WithParts, reach: WithReach
) -> Response:
    """Sends the event of a delivery once more, as a new delivery with the same webhook-id."""
    belongs(request, (await parts.webhooks.one(webhook_id, reach)).organization_id)
    return success(request, DeliveryShape.of(await parts.webhooks.redeliver(webhook_id, reach, delivery_id)), _ACCEPTED)
