"""/v1/audit-logs and /v1/organizations/{org}/audit-logs: who changed what, newest first.

Not about what is recorded (access.py, trail.py).
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from protos.types import OrganizationId
from router.api.context import Parts, WithParts, WithPathOrganization, WithReach
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.store import audit
from router.store.audit import AuditEntry

routes = APIRouter(prefix="/v1", tags=["audit log"])


class AuditShape(BaseModel):
    id: str
    organization_id: str
    actor: str = Field(description="the id of the key; settings:0 and so on: one of FABRIC_API_KEYS; development: none")
    action: str = Field(description="resource.verb, such as key.rotate")
    resource_type: str
    resource_id: str | None
    outcome: str = Field(description="success, denied (the key lacks the right) or failure")
    status: int | None = Field(description="of the HTTP answer")
    request_id: str | None
    detail: str | None
    created_at: str

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditShape":
        deed = entry.deed
        return cls(
            id=entry.id,
            organization_id=deed.organization_id,
            actor=deed.actor,
            action=deed.action,
            resource_type=deed.action.partition(".")[0],
            resource_id=deed.resource_id,
            outcome=deed.outcome,
            status=deed.status,
            request_id=deed.request_id,
            detail=deed.detail,
            created_at=iso(entry.created_at),
        )


_Limit = Annotated[int, Query(ge=1, le=200)]
_Cursor = Annotated[str | None, Query(max_length=100, description="the id of the last entry seen: continue after it")]


@routes.get("/audit-logs", response_model=Success[list[AuditShape]])
async def list_entries(
    request: Request, parts: WithParts, reach: WithReach, limit: _Limit = 50, cursor: _Cursor = None
) -> Response:
    """The caller's organization's; an administrator who names none sees those of all."""
    return success(request, await _entries(parts, reach, limit, cursor))


@routes.get("/organizations/{org}/audit-logs", response_model=Success[list[AuditShape]])
async def list_entries_of_organization(
    request: Request, parts: WithParts, org: WithPathOrganization, limit: _Limit = 50, cursor: _Cursor = None
) -> Response:
    return success(request, await _entries(parts, org, limit, cursor))


async def _entries(parts: Parts, reach: OrganizationId | None, limit: int, cursor: str | None) -> list[BaseModel]:
    entries = await parts.store.look(lambda connection: audit.listed(connection, reach, limit, cursor))
    return [AuditShape.of(entry) for entry in entries]
