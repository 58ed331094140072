"""Where a task may go, best first, and why: a pure function of the request and what is known of each provider.

Not about how many go there (capacity.py), nor what happens when one fails (retries.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protos.errors import ModelNotFound, NoProvider
from protos.types import Modality, ModelId, ProviderId, Tier
from providers.base import Offer, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What of a request decides where it goes."""

    modality: Modality
    model: str | None = None  # None: the default of the modality
    tier: Tier | None = None  # None: any
    privacy: str = "any"  # any; local_only never leaves the box
    needs_streaming: bool = False
    deadline_at: float | None = None  # wished end of a durable job, UTC seconds; decides nothing yet


@dataclass(frozen=True, slots=True)
class Candidate:
    provider_id: ProviderId
    model: ModelId
    reason: str


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
    judged = [(snapshot, _judge(request, snapshot)) for snapshot in snapshots]
    able = [(snapshot, offer) for snapshot, offer in judged if isinstance(offer, Offer)]
    skipped = tuple(verdict for _, verdict in judged if isinstance(verdict, Skipped))
    if not able:
        raise _nobody(request, skipped)
    able.sort(key=lambda pair: _rank(*pair))  # stable: the configured order decides between equals
    return Route(tuple(Candidate(s.id, offer.model, _why(s, offer)) for s, offer in able), skipped)


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


def _judge(request: RoutingRequest, snapshot: Snapshot) -> Offer | Skipped:
    """Lasting reasons come first: they stay true when the others pass."""
    lasting = _lasting_reason(request, snapshot)
    if lasting is not None:
        return Skipped(snapshot.id, lasting, is_lasting=True)
    if snapshot.health.status == "unavailable":
        return Skipped(snapshot.id, f"is unavailable: {snapshot.health.reason or 'not seen yet'}", is_lasting=False)
    return offers_for(snapshot, request.modality, request.model)[0]


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


def _rank(snapshot: Snapshot, offer: Offer) -> tuple[int, int, float]:
    return snapshot.cost_micro.get(offer.model, 0), _HEALTH_RANK[snapshot.health.status], _load(offer)


def _load(offer: Offer) -> float:
    """Tasks there already, in batches."""
    return (offer.waiting + offer.running) / max(offer.max_batch, 1)


def _why(snapshot: Snapshot, offer: Offer) -> str:
    cost = snapshot.cost_micro.get(offer.model, 0)
    price = f"costs about ${cost / 1_000_000:.6f}" if cost else "costs nothing"
    ahead = offer.waiting + offer.running
    return (
        f"serves {offer.model}, {price}, is {snapshot.health.status}, has {ahead} tasks in batches of {offer.max_batch}"
    )


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
