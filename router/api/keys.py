"""/v1/api-keys: make, list, look at, disable, rotate and delete keys. A secret is told once, when it is made.

Rotating keeps the id and all else; the old secret stops at once. Not about how a key is checked (router/keyring.py).
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from protos.errors import InputInvalid
from protos.types import OrganizationId
from router.api.context import JSON_BODY, WithOrganization, WithParts, WithPrincipal, WithReach, organization
from router.api.envelope import Success, success
from router.api.job_shapes import Name, iso
from router.keyring import NewKey
from router.principals import GRANTS, Principal
from router.store.keys import EVERY_ORGANIZATION, ApiKey

routes = APIRouter(prefix="/v1/api-keys", tags=["api keys"])

_SCOPES_LIMIT: Final = 50


class KeyBody(BaseModel):
    """A key to make. Without `scopes` it may do all that work needs: jobs, direct calls, assets, webhooks, usage."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "ci-pipeline", "scopes": ["jobs:*", "assets:read"]}]}
    )

    name: Name
    organization_id: str | None = Field(default=None, description='default: the caller\'s; "*": all of them')
    scopes: Annotated[list[str], Field(max_length=_SCOPES_LIMIT)] | None = Field(
        default=None, description=f"of {', '.join(sorted(GRANTS))}"
    )
    expires_at: datetime | None = Field(default=None, description="ISO 8601, UTC if it does not say")
    rate_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = Field(
        default=None, description="requests a second; default: the settings'; for an administrator of all"
    )
    max_concurrent_jobs: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = Field(
        default=None, description="pending and started jobs; default: the settings'; for an administrator of all"
    )

    def asked(self, principal: Principal, organization_id: OrganizationId) -> NewKey:
        """The key to make. `organization_id`: for a body that names none. Raises InputInvalid, Forbidden."""
        return NewKey(
            name=self.name,
            organization_id=self._owner(principal) or organization_id,
            grants=None if self.scopes is None else tuple(self.scopes),
            expires_at=_future(self.expires_at),
            rate_per_s=self.rate_per_s,
            max_concurrent_jobs=self.max_concurrent_jobs,
        )

    def _owner(self, principal: Principal) -> OrganizationId | None:
        if self.organization_id is None:
            return None
        if self.organization_id == EVERY_ORGANIZATION:
            return principal.act_for(EVERY_ORGANIZATION)
        return organization(principal, self.organization_id)


def _future(expires_at: datetime | None) -> float | None:
    if expires_at is None:
        return None
    moment = expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise InputInvalid.at("expires_at", f"is {moment.isoformat()}, which has passed: give a time to come")
    return moment.timestamp()


class KeyShape(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    prefix: str = Field(description="the begin of its secret, to tell keys apart")
    organization_id: str
    scopes: list[str]
    disabled: bool
    expires_at: str | None
    created_at: str
    last_used_at: str | None
    rate_per_s: float | None = Field(description="null: the settings' own")
    max_concurrent_jobs: int | None = Field(description="null: the settings' own")

    @classmethod
    def of(cls, key: ApiKey) -> "KeyShape":
        return cls(**_shown(key))


class NewKeyShape(KeyShape):
    """A key and its secret, which is told now and never again."""

    key: str

    @classmethod
    def with_secret(cls, key: ApiKey, secret: str) -> "NewKeyShape":
        return cls(key=secret, **_shown(key))


class Deleted(BaseModel):
    id: str
    organization_id: str
    deleted: bool = True


def _shown(key: ApiKey) -> dict[str, Any]:  # Any: each field has its own type
    times = {name: getattr(key, name) for name in ("expires_at", "created_at", "last_used_at")}
    shown = {name: None if at is None else iso(at) for name, at in times.items()}
    return asdict(key) | shown


@routes.post("", status_code=201, response_model=Success[NewKeyShape], dependencies=[JSON_BODY])
async def create_key(
    request: Request, body: KeyBody, parts: WithParts, principal: WithPrincipal, organization_id: WithOrganization
) -> Response:
    """`key` is the secret: keep it, nobody can read it again."""
    key, secret = await parts.keyring.create(body.asked(principal, organization_id), principal)
    headers = {"location": f"/v1/api-keys/{key.id}"}
    return success(request, NewKeyShape.with_secret(key, secret), 201, headers)


@routes.get("", response_model=Success[list[KeyShape]])
async def list_keys(request: Request, parts: WithParts, reach: WithReach) -> Response:
    """Newest first. An administrator who names no organization sees those of all."""
    return success(request, [KeyShape.of(key) for key in parts.keyring.listed(reach)])


@routes.get("/{key_id}", response_model=Success[KeyShape])
async def get_key(request: Request, key_id: str, parts: WithParts, reach: WithReach) -> Response:
    return success(request, KeyShape.of(parts.keyring.one(key_id, reach)))


@routes.delete("/{key_id}", response_model=Success[Deleted])
async def delete_key(
    request: Request, key_id: str, parts: WithParts, principal: WithPrincipal, reach: WithReach
) -> Response:
    """It stops at once."""
    key = await parts.keyring.delete(key_id, reach, principal)
    return success(request, Deleted(id=key.id, organization_id=key.organization_id))


@routes.post("/{key_id}/disable", response_model=Success[KeyShape])
async def disable_key(
    request: Request, key_id: str, parts: WithParts, principal: WithPrincipal, reach: WithReach
) -> Response:
    """It stops at once, and for good."""
    return success(request, KeyShape.of(await parts.keyring.disable(key_id, reach, principal)))


@routes.post("/{key_id}/rotate", response_model=Success[NewKeyShape])
async def rotate_key(
    request: Request, key_id: str, parts: WithParts, principal: WithPrincipal, reach: WithReach
) -> Response:
    """A new secret for the same key; the old one stops at once."""
    return success(request, NewKeyShape.with_secret(*await parts.keyring.rotate(key_id, reach, principal)))
