"""/v1/providers: the places a request can go, and what it would take there.

Not about running it (direct.py).
"""

from dataclasses import replace

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from protos.errors import InputInvalid
from protos.types import Estimate, Modality, ModelId, OrganizationId, Task, TaskId, Tier
from providers.base import Snapshot
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts
from router.api.envelope import Success, success
from router.api.job_shapes import LOCAL_COST, Input, Name, Params
from router.api.nodes import HealthShape
from router.api.placement import checked_request
from router.inputs import Remote
from router.jobs import Json
from router.routing import RoutingRequest, order
from router.tasks import attached, request_of, usage_json

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
        )

    def routing(self) -> RoutingRequest:
        return RoutingRequest(modality=self.modality, model=self.model, tier=self.tier)


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


class Eta(BaseModel):
    """Seconds, were it sent now."""

    queue_s: float
    load_s: float
    run_s: float
    total_s: float


class EstimateShape(BaseModel):
    provider_id: str
    model: str
    modality: Modality
    tier: Tier
    available: bool = Field(description="could be served now")
    estimated_cost_usd: float
    cost_micro: int = Field(description="1 USD is 1,000,000")
    currency: str
    usage: Json = Field(description="what was assumed; output_tokens is the upper bound")
    source: str = Field(description="of the price")
    eta: Eta
    fits_memory: bool
    would_evict: list[str]


@routes.get("", response_model=Success[list[ProviderShape]])
async def list_providers(request: Request, parts: WithParts) -> Response:
    return success(request, [ProviderShape.of(snapshot) for snapshot in parts.providers.snapshots()])


@routes.post("/estimate", response_model=Success[EstimateShape], dependencies=[JSON_BODY])
async def estimate(request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization) -> Response:
    """What it would cost and when it would end, at the place where it would go now. A local model costs 0. No key."""
    check_no_url(body.modality, body.input)
    task = await body.task(parts, organization_id)
    best = order(body.routing(), parts.providers.snapshots()).candidates[0]
    provider = parts.providers.get(best.provider_id)
    found = await provider.estimate(replace(task, model=best.model))
    return success(request, _estimate_shape(body.modality, provider.snapshot(), found))


def check_no_url(modality: Modality, input: Json) -> None:  # noqa: A002  # the wire's name
    """An estimate needs no key, so nobody may make the router fetch files by it. Raises InputInvalid."""
    found = attached(modality, input)
    if found is not None and isinstance(found.source, Remote):
        raise InputInvalid.at(found.path, "is not fetched for an estimate: upload the file and give its asset_id")


def _estimate_shape(modality: Modality, snapshot: Snapshot, found: Estimate) -> EstimateShape:
    return EstimateShape(
        provider_id=snapshot.id,
        model=found.model,
        modality=modality,
        tier=snapshot.tier,
        available=snapshot.health.status != "unavailable" and found.fits_memory,
        usage=usage_json(found.usage),
        source="local",
        eta=Eta(queue_s=found.queue_s, load_s=found.load_s, run_s=found.run_s, total_s=found.total_s),
        fits_memory=found.fits_memory,
        would_evict=list(found.would_evict),
        **LOCAL_COST,
    )
