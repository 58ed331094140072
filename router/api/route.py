"""/v1/providers/route: where a request would go now and why, in order, without running it.

Not about what it would take at the first of them (estimate.py), nor about a job that is there already (explain.py).
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from protos.errors import FabricError, NoProvider
from protos.types import Modality, ModelId, OrganizationId, Task, TaskId, TaskRequest, Tier
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts
from router.api.envelope import Success, success
from router.api.explain import ESTIMATE_S, CauseShape, SkippedShape
from router.api.job_shapes import Input, Name, Params, Seconds
from router.api.placement import checked_request
from router.candidates import Candidate
from router.routing import RULE, RoutingRequest, order
from router.spending import micro_of, usd
from router.spill import in_time_first

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class RouteBody(BaseModel):
    """What of a job decides where it goes. Without `input`: a typical request."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"modality": "text", "privacy": "local_only"}]}
    )

    modality: Modality
    input: Input | None = None
    params: Params = Field(default_factory=dict)
    model: Name | None = None
    tier: Tier | None = None
    privacy: Literal["any", "local_only"] = "any"
    deadline_s: Seconds | None = None
    max_cost_usd: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | None = None

    def content(self, parts: Parts) -> TaskRequest | None:
        """Without its files, which nobody fetches for this. Raises InputInvalid."""
        return None if self.input is None else checked_request(self.modality, self.input, self.params, parts.settings)

    def routing(self, content: TaskRequest | None) -> RoutingRequest:
        return RoutingRequest(
            modality=self.modality,
            model=self.model,
            tier=self.tier,
            privacy=self.privacy,
            content=content,
            max_cost_micro=None if self.max_cost_usd is None else micro_of(self.max_cost_usd),
        )


class ChoiceShape(BaseModel):
    provider_id: str
    model: str
    reason: str
    estimated_cost_usd: float | None = Field(description="null: nobody has said what it costs")
    max_cost_usd: float | None = Field(description="what it can cost at most")
    expected_s: float | None = Field(description="until its end, were it sent now; null where nobody can say")


class RouteShape(BaseModel):
    rule: str
    candidates: list[ChoiceShape] = Field(description="in the order in which they would be asked")
    skipped: list[SkippedShape]
    refusal: CauseShape | None = Field(description="why nobody can have it")


@routes.post("/route", response_model=Success[RouteShape], dependencies=[JSON_BODY])
async def show_route(
    request: Request, body: RouteBody, parts: WithParts, organization_id: WithOrganization
) -> Response:
    """Every place in the order in which it would be asked, or with the reason why not. Runs nothing."""
    content = body.content(parts)
    try:
        route = order(body.routing(content), parts.providers.snapshots(organization_id))
    except NoProvider as error:
        return success(request, _refused(error))
    etas_s = await _etas_s(parts, route.candidates, content, organization_id)
    candidates = route.candidates
    if body.deadline_s is not None and any(candidate.is_paid for candidate in candidates):
        candidates = in_time_first(candidates, etas_s, body.deadline_s)
    expected = {(each.provider_id, each.model): eta for each, eta in zip(route.candidates, etas_s, strict=True)}
    skipped = [SkippedShape(provider_id=each.provider_id, reason=each.reason) for each in route.skipped]
    shown = [_choice(each, expected[each.provider_id, each.model]) for each in candidates]
    absent = list(_absent(parts, body.model))
    return success(request, RouteShape(rule=RULE, candidates=shown, skipped=[*skipped, *absent], refusal=None))


def _refused(error: NoProvider) -> RouteShape:
    told = error.details.get("skipped", ())
    skipped = [SkippedShape(**each) for each in told] if isinstance(told, Sequence) else []
    refusal = CauseShape(code=error.code.value, message=error.message)
    return RouteShape(rule=RULE, candidates=[], skipped=skipped, refusal=refusal)


def _choice(candidate: Candidate, expected_s: float | None) -> ChoiceShape:
    quote = candidate.quote
    return ChoiceShape(
        provider_id=candidate.provider_id,
        model=candidate.model,
        reason=candidate.reason,
        estimated_cost_usd=None if quote is None else usd(quote.estimated_micro),
        max_cost_usd=None if quote is None else usd(quote.bound_micro),
        expected_s=expected_s,
    )


def _absent(parts: Parts, model: str | None) -> Iterator[SkippedShape]:
    """What an alias stands for and no place has."""
    alias = next((alias for alias in parts.providers.aliases if alias.id == model), None)
    offers = [offer for snapshot in parts.providers.snapshots() for offer in snapshot.offers]
    there = {target for offer in offers for target in [offer.model] if model in offer.aliases}
    for target in alias.candidates if alias else ():
        if target.model not in there:
            owners = [known.vendor for known in parts.catalog.owners(target.model)]
            where = target.provider or next(iter(owners), "node")  # else it is one of the file
            yield SkippedShape(provider_id=where, reason=f"is off, or does not have {target.model} now")


async def _etas_s(
    parts: Parts, candidates: Sequence[Candidate], content: TaskRequest | None, organization_id: OrganizationId
) -> list[float | None]:
    if content is None:
        return [None] * len(candidates)
    task = Task(id=TaskId(f"task_{ULID()}"), request=content, organization_id=organization_id)
    return list(await asyncio.gather(*(_eta_s(parts, task, candidate) for candidate in candidates)))


async def _eta_s(parts: Parts, task: Task, candidate: Candidate) -> float | None:
    """None: the place cannot say, or not in time."""
    provider = parts.providers.get(candidate.provider_id)
    try:
        async with asyncio.timeout(ESTIMATE_S):
            return (await provider.estimate(replace(task, model=ModelId(candidate.model)))).total_s
    except (FabricError, TimeoutError):
        return None
