"""A webhook and its deliveries as clients send and get them. Not about routes (webhooks.py)."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from protos.errors import InputInvalid
from router.api.job_shapes import iso
from router.store.deliveries import Delivery
from router.store.webhooks import Webhook
from router.targets import URL_CHARS
from router.webhooks import filters, signing
from router.webhooks.hooks import Changes, Wanted
from router.webhooks.schedule import MAX_RETRIES

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

    @classmethod
    def made(cls, webhook: Webhook, secret: str) -> "NewWebhookShape":
        return cls(**_shown(webhook), secret=secret)


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
    """One event on its way to one webhook, or to the webhook_url of its job, and how its last attempt went."""

    id: str
    webhook_id: str = Field(description="empty: to the webhook_url of the job")
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
