"""/v1/providers: the places a request can go, and what it would take there.

Not about running it (direct.py).
"""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from protos.types import Modality, ModelId, OrganizationId, Task, TaskId, Tier
from providers.base import Snapshot
from router.api.context import Parts, WithParts
from router.api.envelope import Success, success
from router.api.job_shapes import Input, Name, Params
from router.api.nodes import HealthShape
from router.api.placement import checked_request
from router.routing import RoutingRequest
from router.tasks import request_of

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class DirectBody(BaseModel):
    """A request to serve, or to estimate, at once. `input` and `params` as of a job."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"modality": "text", "model": "echo", "input": {"prompt": "Hello there"}}]},
    )

    modality: Modality
    input: Input
    params: Params = Field(default_factory=dict)
    model: Name | None = None
    tier: Tier | None = None
    privacy: Literal["any", "local_only"] = "any"

    async def task(self, parts: Parts, organization_id: OrganizationId) -> Task:
        """With the file that its input refers to. Raises InputInvalid, and what can be wrong with that file."""
        request = checked_request(self.modality, self.input, self.params, parts.settings)
        file = await parts.attachments.of_input(organization_id, self.modality, self.input)
        return Task(
            id=TaskId(f"task_{ULID()}"),
            request=request if file is None else request_of(self.modality, self.input, self.params, file),
            model=ModelId(self.model) if self.model else None,
            organization_id=organization_id,
            timeout_s=parts.settings.execute_timeout_s,
            tier=self.tier,
            privacy=self.privacy,
        )

    def routing(self) -> RoutingRequest:
        return RoutingRequest(modality=self.modality, model=self.model, tier=self.tier, privacy=self.privacy)


class ProviderShape(BaseModel):
    id: str
    provider_id: str
    tier: Tier
    modalities: list[Modality]
    modality: Modality | None = Field(description="the first of them; null while the provider has not been reached")
    model: str | None = Field(description="its default of that modality")
    models: list[str]
    supports_streaming: bool
    estimated_cost_per_request: float = Field(description="USD")
    health: HealthShape

    @classmethod
    def of(cls, snapshot: Snapshot) -> "ProviderShape":
        offers = sorted(snapshot.offers, key=lambda offer: not offer.is_default)  # stable: defaults first
        default = offers[0] if offers else None
        return cls(
            id=snapshot.id,
            provider_id=snapshot.id,
            tier=snapshot.tier,
            modalities=list(dict.fromkeys(offer.modality for offer in offers)),
            modality=default.modality if default else None,
            model=default.model if default else None,
            models=list(dict.fromkeys(offer.model for offer in offers)),
            supports_streaming=snapshot.supports_streaming,
            estimated_cost_per_request=snapshot.cost_micro.get(default.model, 0) / 1_000_000 if default else 0.0,
            health=HealthShape.of(snapshot),
        )


@routes.get("", response_model=Success[list[ProviderShape]])
async def list_providers(request: Request, parts: WithParts) -> Response:
    return success(request, [ProviderShape.of(snapshot) for snapshot in parts.providers.snapshots()])
