"""/v1/providers/estimate: what a request would cost and when it would end, at the place where it would go now.

Not about running it (direct.py), nor about how a place knows (Provider.estimate).
"""

from dataclasses import replace

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from protos.errors import InputInvalid, ModelNotFound
from protos.types import Estimate, Modality, ModelId, OrganizationId, Task, Tier
from providers.base import Offer, Snapshot
from providers.catalog import Catalog, VendorModel
from providers.pricing import Price, expected_usage
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts
from router.api.envelope import Success, success
from router.api.providers import DirectBody
from router.candidates import Candidate
from router.explain import ahead_s
from router.inputs import Remote
from router.jobs import Json, lane_of
from router.quotes import Needs, quote_of
from router.routing import order
from router.spending import CURRENCY, Quote, usd
from router.store import queries
from router.tasks import attached, usage_json

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class Eta(BaseModel):
    """Seconds, were it sent as a job now; null where nobody can say."""

    queue_s: float | None = None
    load_s: float | None = None
    run_s: float | None = None
    total_s: float | None = None


class EstimateShape(BaseModel):
    provider_id: str
    model: str
    modality: Modality
    tier: Tier
    available: bool = Field(
        description="could be served now, and to the caller: a vendor with a key of its organization"
    )
    estimated_cost_usd: float | None = Field(description="null: nobody has said what it costs")
    cost_micro: int | None = Field(description="1 USD is 1,000,000")
    max_cost_micro: int | None = Field(description="what it can cost at most: a budget must have room for that")
    currency: str
    usage: Json = Field(description="what was assumed; output_tokens is the upper bound")
    source: str = Field(description="of the price: local, or where and when it was read")
    eta: Eta
    fits_memory: bool
    would_evict: list[str]


@routes.post("/estimate", response_model=Success[EstimateShape], dependencies=[JSON_BODY])
async def estimate(request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization) -> Response:
    """A local model costs 0. A vendor's model has its price also where the vendor is not switched on. Needs no key."""
    return success(request, await estimated(parts, body, organization_id))


async def estimated(parts: Parts, body: DirectBody, organization_id: OrganizationId) -> EstimateShape:
    """Raises what would refuse the request."""
    _check_no_url(body)
    task = await body.task(parts, organization_id)
    try:
        best = order(replace(body.routing(), content=task.request), parts.providers.snapshots()).candidates[0]
    except ModelNotFound:
        if (known := _known(parts.catalog, body)) is None:
            raise
        return _of_catalog(known, task)
    return await _at(best, task, parts, lane_of(body.modality, body.model))


def _check_no_url(body: DirectBody) -> None:
    """Without a key nobody may make the router fetch files. Raises InputInvalid."""
    found = attached(body.modality, body.input)
    if found is not None and isinstance(found.source, Remote):
        raise InputInvalid.at(found.path, "is not fetched for an estimate: upload the file and give its asset_id")


async def _at(best: Candidate, task: Task, parts: Parts, lane: str) -> EstimateShape:
    provider = parts.providers.get(best.provider_id)
    found = await provider.estimate(replace(task, model=best.model))
    snapshot = provider.snapshot()
    found = _queued(found, snapshot, await parts.store.look(queries.waiting(lane, task.priority)))
    return _shape(task.modality, snapshot, found, best, has_key=_has_key(snapshot, task.organization_id, parts))


def _queued(found: Estimate, snapshot: Snapshot, ahead: int) -> Estimate:
    """With the wait for the jobs that the place has not taken yet, and knows nothing of."""
    max_batch = next((offer.max_batch for offer in snapshot.offers if offer.model == found.model), 1)
    before_s = ahead_s(ahead, found, max_batch)
    return replace(found, queue_s=found.queue_s + before_s, total_s=found.total_s + before_s)


def _has_key(snapshot: Snapshot, organization_id: OrganizationId, parts: Parts) -> bool:
    """A vendor that some organizations have a key for serves nobody else."""
    variable = snapshot.key_variable
    return not variable or parts.secrets.key_of(organization_id, variable) is not None


def _shape(modality: Modality, snapshot: Snapshot, found: Estimate, best: Candidate, *, has_key: bool) -> EstimateShape:
    return EstimateShape(
        provider_id=snapshot.id,
        model=found.model,
        modality=modality,
        tier=snapshot.tier,
        available=snapshot.health.status != "unavailable" and found.fits_memory and has_key,
        **_cost(best.quote),
        usage=usage_json(found.usage),
        source=_source(best),
        eta=Eta(queue_s=found.queue_s, load_s=found.load_s, run_s=found.run_s, total_s=found.total_s),
        fits_memory=found.fits_memory,
        would_evict=list(found.would_evict),
    )


def _source(best: Candidate) -> str:
    if best.price is not None:
        return _read_at(best.price)
    return "local" if best.quote is not None else "unknown"


def _read_at(price: Price) -> str:
    return f"{price.source}, {price.as_of}"


def _cost(quote: Quote | None) -> Json:
    if quote is None:
        return {"estimated_cost_usd": None, "cost_micro": None, "max_cost_micro": None, "currency": CURRENCY}
    return {
        "estimated_cost_usd": usd(quote.estimated_micro),
        "cost_micro": quote.estimated_micro,
        "max_cost_micro": quote.bound_micro,
        "currency": CURRENCY,
    }


# ---- vendors that are not switched on ----


def _known(catalog: Catalog, body: DirectBody) -> VendorModel | None:
    """The model at the first vendor that has it. None: nobody has, or not for this."""
    if body.model is None or body.tier is Tier.BASIC:
        return None
    return next((known for known in catalog.owners(ModelId(body.model)) if known.modality is body.modality), None)


def _of_catalog(known: VendorModel, task: Task) -> EstimateShape:
    offer = Offer(model=known.id, modality=known.modality, price=known.price, bounds=known.bounds)
    return EstimateShape(
        provider_id=known.vendor,
        model=known.id,
        modality=known.modality,
        tier=Tier.PREMIUM,
        available=False,
        **_cost(quote_of(offer, Needs(task.request))),
        usage=usage_json(expected_usage(task.request, known.bounds)),
        source=_read_at(known.price) if known.price else "unknown",
        eta=Eta(),
        fits_memory=True,
        would_evict=[],
    )
