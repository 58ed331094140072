"""Where a task may go, best first, and why: a pure function of the request and what is known of each provider.

Not about how many go there (capacity.py), nor what happens when one fails (retries.py).
"""

import math
from collections.abc import Callable, Sequence
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
    "the tier asked for, then who can do it and has the model, of an alias in its own order, then the cheapest, the "
    "healthiest, the model that comes first in the configured order, the least loaded of those that have it, and the "
    "configured order"
)

_HEALTH_RANK: Final = {"healthy": 0, "degraded": 1, "unavailable": 2}


def order(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> Route:
    """Tier asked for, then capability and model, then cost, health, load among those of one model, and the configured
    order: load alone never changes which model answers.

    Raises ModelNotFound when nobody has the model, NeverServed when nobody may serve the request, and NoProvider when
    nobody can now; all but the first with `details.skipped`.
    """
    _check_model(request, snapshots)
    needs = _needs(request, snapshots)
    named = [(snapshot, _offers_of(request, snapshot)) for snapshot in snapshots]
    judged = [verdict for snapshot, offers in named for verdict in _judge(request, snapshot, offers, needs)]
    able = [verdict for verdict in judged if isinstance(verdict, _Able)]
    skipped = tuple(verdict for verdict in judged if isinstance(verdict, Skipped))
    if not able:
        raise _nobody(request, skipped)
    able.sort(key=_ranking(request, [offer.model for _, offers in named for offer in offers]))  # stable
    return Route(tuple(_candidate(request, each) for each in able), skipped)


def is_unseen(snapshot: Snapshot) -> bool:
    """It has never said what it offers: a node that still starts."""
    return snapshot.health.status == "unavailable" and not snapshot.offers


def offers_for(snapshot: Snapshot, modality: Modality | None, model: str | None) -> Sequence[Offer]:
    """What it offers under that name, its own or an alias, or, without a name, by default. No modality: of any."""
    if model:
        return [
            offer
            for offer in snapshot.offers
            if (offer.model == model or model in offer.aliases) and modality in (None, offer.modality)
        ]
    if snapshot.only_when_named:
        return []
    return [offer for offer in snapshot.offers if offer.is_default and modality in (None, offer.modality)]


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


def _offers_of(request: RoutingRequest, snapshot: Snapshot) -> Sequence[Offer]:
    """Those that may serve it there: one, or of an alias all that it stands for."""
    offers = offers_for(snapshot, request.modality, request.model)
    stands_for = [offer for offer in offers if request.model in offer.aliases]
    return stands_for or offers[:1]


def _judge(
    request: RoutingRequest, snapshot: Snapshot, offers: Sequence[Offer], needs: Needs | None
) -> Sequence[_Able | Skipped]:
    """Lasting reasons come first: they stay true when the others pass."""
    lasting = _lasting_reason(request, snapshot, offers)
    if lasting is not None:
        return [Skipped(snapshot.id, lasting, is_lasting=True)]
    if not offers:
        return [_unavailable(snapshot)]
    return [_judged(request, _priced(snapshot, offer, needs)) for offer in offers]


def _judged(request: RoutingRequest, able: _Able) -> _Able | Skipped:
    too_dear = _money_reason(request, able)
    if too_dear is not None:
        return Skipped(able.snapshot.id, too_dear, is_lasting=True)
    return _unavailable(able.snapshot) if able.snapshot.health.status == "unavailable" else able


def _unavailable(snapshot: Snapshot) -> Skipped:
    return Skipped(snapshot.id, f"is unavailable: {snapshot.health.reason or 'not seen yet'}", is_lasting=False)


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


def _lasting_reason(request: RoutingRequest, snapshot: Snapshot, offers: Sequence[Offer]) -> str | None:
    if request.tier not in (None, snapshot.tier):
        return f"is of tier {snapshot.tier}, {request.tier} was asked for"
    if request.privacy == "local_only" and snapshot.is_remote:
        return "is remote, and the request must not leave the box"
    if request.needs_streaming and not snapshot.supports_streaming:
        return "does not stream"
    if offers or is_unseen(snapshot):
        return None
    if request.model is not None:
        return f"has no {request.modality} model {request.model!r}"
    if snapshot.only_when_named:
        return "serves only requests that name its model"
    return f"has no default model for {request.modality}"


def _ranking(request: RoutingRequest, models: Sequence[ModelId]) -> Callable[[_Able], tuple[float, ...]]:
    """models: what the places have for the request, in the configured order, whatever their health."""
    first = {model: place for place, model in reversed(list(enumerate(models)))}

    def rank(able: _Able) -> tuple[float, ...]:
        offer, cost_micro = able.offer, math.inf if able.quote is None else able.quote.estimated_micro
        preferred = offer.aliases.get(request.model or "", 0)
        return preferred, cost_micro, _HEALTH_RANK[able.snapshot.health.status], first[offer.model], _load(offer)

    return rank


def _load(offer: Offer) -> float:
    """Tasks there already, in batches."""
    return (offer.waiting + offer.running) / max(offer.max_batch, 1)


def _candidate(request: RoutingRequest, able: _Able) -> Candidate:
    snapshot, offer = able.snapshot, able.offer
    preferred = offer.aliases.get(request.model or "")
    named = "" if preferred is None else f"is choice {preferred + 1} of {request.model!r}, "
    reason = (
        f"{named}serves {offer.model}, {_cost_told(able.quote)}, is {snapshot.health.status}, has "
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
    named = [offer for offer in offers if offer.model == request.model or request.model in offer.aliases]
    served = sorted({offer.modality for offer in named})
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
