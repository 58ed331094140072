"""Where a task may go, best first, and why: a pure function of the request and what is known of each provider.

Not about how many go there (capacity.py), nor what happens when one fails (retries.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protos.errors import ModelNotFound, NoProvider
from protos.types import Modality, ModelId, ProviderId, TaskRequest, Tier
from providers.base import Offer, Snapshot
from providers.pricing import Price
from router.quotes import FREE, Needs, is_free, quote_of
from router.spending import Quote, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What of a request decides where it goes."""

    modality: Modality
    model: str | None = None  # None: the default of the modality
    tier: Tier | None = None  # None: any
    privacy: str = "any"  # any; local_only never leaves the box
    needs_streaming: bool = False
    deadline_at: float | None = None  # wished end of a durable job, UTC seconds; see spill.py
    content: TaskRequest | None = field(default=None, repr=False)  # what is asked; None: not known, prices are typical
    max_cost_micro: int | None = None  # of one call at most, in microdollars
    paid_before: Sequence[str] = ()  # places whose paid call may have done it already: then nobody is paid again


@dataclass(frozen=True, slots=True)
class Candidate:
    provider_id: ProviderId
    model: ModelId
    reason: str
    quote: Quote | None = FREE  # None: nobody knows what it costs
    price: Price | None = None

    @property
    def is_paid(self) -> bool:
        return self.quote is None or self.price is not None or self.quote.bound_micro > 0


@dataclass(frozen=True, slots=True)
class Skipped:
    provider_id: ProviderId
    reason: str
    is_lasting: bool  # no change of its health makes it a candidate


@dataclass(frozen=True, slots=True)
class Route:
    """Candidates, best first, at least one; and every other provider with the reason why it is none."""

    candidates: Sequence[Candidate]
    skipped: Sequence[Skipped]


class NeverServed(NoProvider):
    """Nothing that is configured may serve the request, however healthy it is. Waiting does not help."""

    retryable = False


# The order of `order`, in words, for whoever asks why a job went where it went.
RULE: Final = (
    "the tier asked for, then who can do it and has the model, then the cheapest, the healthiest, the least loaded, and "
    "the configured order"
)

_HEALTH_RANK: Final = {"healthy": 0, "degraded": 1, "unavailable": 2}


def order(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> Route:
    """Tier asked for, then capability and model, then cost, health, load, and the configured order.

    Raises ModelNotFound when nobody has the model, NeverServed when nobody may serve the request, and NoProvider when
    nobody can now; all but the first with `details.skipped`.
    """
    _check_model(request, snapshots)
    needs = _needs(request, snapshots)
    judged = [_judge(request, snapshot, needs) for snapshot in snapshots]
    able = [verdict for verdict in judged if isinstance(verdict, _Able)]
    skipped = tuple(verdict for verdict in judged if isinstance(verdict, Skipped))
    if not able:
        raise _nobody(request, skipped)
    able.sort(key=_rank)  # stable: the configured order decides between equals
    return Route(tuple(_candidate(each) for each in able), skipped)


def is_unseen(snapshot: Snapshot) -> bool:
    """It has never said what it offers: a node that still starts."""
    return snapshot.health.status == "unavailable" and not snapshot.offers


def offers_for(snapshot: Snapshot, modality: Modality | None, model: str | None) -> Sequence[Offer]:
    """What it offers under that name, or, without a name, by default. No modality: of any."""
    return [
        offer
        for offer in snapshot.offers
        if modality in (None, offer.modality)
        and (offer.model == model if model else offer.is_default and not snapshot.only_when_named)
    ]


@dataclass(frozen=True, slots=True)
class _Able:
    snapshot: Snapshot
    offer: Offer
    quote: Quote | None


def _needs(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> Needs | None:
    """Counted only where somebody has a price: local work is not slowed by money."""
    if request.content is None or not any(offer.price for snapshot in snapshots for offer in snapshot.offers):
        return None
    return Needs.of(request.content)


def _judge(request: RoutingRequest, snapshot: Snapshot, needs: Needs | None) -> _Able | Skipped:
    """Lasting reasons come first: they stay true when the others pass."""
    lasting = _lasting_reason(request, snapshot)
    if lasting is not None:
        return Skipped(snapshot.id, lasting, is_lasting=True)
    offers = offers_for(snapshot, request.modality, request.model)
    able = _priced(snapshot, offers[0], needs) if offers else None
    too_dear = _money_reason(request, able) if able is not None else None
    if too_dear is not None:
        return Skipped(snapshot.id, too_dear, is_lasting=True)
    if able is None or snapshot.health.status == "unavailable":
        return Skipped(snapshot.id, f"is unavailable: {snapshot.health.reason or 'not seen yet'}", is_lasting=False)
    return able


def _priced(snapshot: Snapshot, offer: Offer, needs: Needs | None) -> _Able:
    return _Able(snapshot, offer, FREE if is_free(snapshot, offer) else quote_of(offer, needs))


def _money_reason(request: RoutingRequest, able: _Able) -> str | None:
    """Why it may not be paid for this."""
    quote, most = able.quote, request.max_cost_micro
    if quote is not None and not quote.bound_micro:
        return None
    if request.paid_before:
        return f"is paid, and a call of {' and '.join(request.paid_before)} may have done this and been paid already"
    if most is None:
        return None
    if quote is None:
        return f"has no known price for {able.offer.model}, and the request has a max_cost_usd"
    if request.content is not None and quote.bound_micro > most:
        return f"may cost {shown(quote.bound_micro)}, the request's max_cost_usd is {shown(most)}"
    return None


def _lasting_reason(request: RoutingRequest, snapshot: Snapshot) -> str | None:
    if request.tier not in (None, snapshot.tier):
        return f"is of tier {snapshot.tier}, {request.tier} was asked for"
    if request.privacy == "local_only" and snapshot.is_remote:
        return "is remote, and the request must not leave the box"
    if request.needs_streaming and not snapshot.supports_streaming:
        return "does not stream"
    if is_unseen(snapshot) or offers_for(snapshot, request.modality, request.model):
        return None
    if request.model is not None:
        return f"has no {request.modality} model {request.model!r}"
    if snapshot.only_when_named:
        return "serves only requests that name its model"
    return f"has no default model for {request.modality}"


def _rank(able: _Able) -> tuple[float, int, float]:
    cost_micro = math.inf if able.quote is None else able.quote.estimated_micro
    return cost_micro, _HEALTH_RANK[able.snapshot.health.status], _load(able.offer)


def _load(offer: Offer) -> float:
    """Tasks there already, in batches."""
    return (offer.waiting + offer.running) / max(offer.max_batch, 1)


def _candidate(able: _Able) -> Candidate:
    snapshot, offer = able.snapshot, able.offer
    reason = (
        f"serves {offer.model}, {_cost_told(able.quote)}, is {snapshot.health.status}, has "
        f"{offer.waiting + offer.running} tasks in batches of {offer.max_batch}"
    )
    return Candidate(snapshot.id, offer.model, reason, able.quote, offer.price)


def _cost_told(quote: Quote | None) -> str:
    if quote is None:
        return "costs nobody knows what"
    if not quote.bound_micro:
        return "costs nothing"
    return f"costs about {shown(quote.estimated_micro)} and at most {shown(quote.bound_micro)}"


# ---- nobody ----


def _check_model(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> None:
    """Raises ModelNotFound; not while a place that may have the model has not said what it has."""
    if request.model is None or any(is_unseen(snapshot) for snapshot in snapshots):
        return
    offers = [offer for snapshot in snapshots for offer in snapshot.offers]
    served = sorted({offer.modality for offer in offers if offer.model == request.model})
    if request.modality in served:
        return
    known = ", ".join(sorted({offer.model for offer in offers if offer.modality is request.modality})) or "none"
    what = f"serves {' and '.join(served)}, not {request.modality}" if served else "is not here"
    raise ModelNotFound(f"model {request.model!r} {what}: name one of the {request.modality} models: {known}")


def _nobody(request: RoutingRequest, skipped: Sequence[Skipped]) -> NoProvider:
    reasons = "; ".join(f"{each.provider_id} {each.reason}" for each in skipped) or "no provider is configured"
    details = {"skipped": [{"provider_id": each.provider_id, "reason": each.reason} for each in skipped]}
    what = f"{request.modality} model {request.model!r}" if request.model else str(request.modality)
    if all(each.is_lasting for each in skipped):
        message = f"no provider serves {what} as asked for ({reasons}): change tier, model or privacy, or configure one"
        return NeverServed(message, details=details)
    message = f"nothing can serve {what} now ({reasons}): retry when a provider is back"
    return NoProvider(message, details=details, retry_after_s=1.0)
