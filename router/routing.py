"""Where a task may go, best first, and why: a pure function of the request and what is known of each provider.

Not about how many go there (capacity.py), nor what happens when one fails (retries.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from protos.errors import FabricError, ModelNotFound, NoProvider
from protos.types import Modality, ModelId, TaskRequest, Tier
from providers.base import Menu, Offer, Snapshot, entry, takes_all
from router.candidates import COMPARED, Candidate, Candidates, Ranked, Skipped
from router.quotes import Needs, estimated_micro, is_free, quote_at, refusal_of
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

    @property
    def takes_any_place(self) -> bool:
        """That has the model, that is."""
        return self.tier is None and self.privacy != "local_only" and not self.needs_streaming


@dataclass(frozen=True, slots=True)
class Route:
    """Candidates, best first, at least one; and every other provider with the reason why it is none."""

    candidates: Sequence[Candidate]
    skipped: Sequence[Skipped]
    depends_on_content: bool = False  # which was not known, and may change it: a candidate is paid or choosy


class NeverServed(NoProvider):
    """Nothing that is configured may serve the request, however healthy it is. Waiting does not help."""

    retryable = False


# The order of `order`, in words, for whoever asks why a job went where it went.
RULE: Final = (
    "the tier asked for, then who can do it and has the model, of an alias in its own order, then the cheapest, the "
    "healthiest, the model that comes first in the configured order, the least loaded of those that have it, and the "
    "configured order"
)

BOXED: Final = "is remote, and the request must not leave the box"  # the reason of a place that privacy rules out

_HEALTH_RANK: Final = {"healthy": 0, "degraded": 1, "unavailable": 2}


def order(request: RoutingRequest, snapshots: Sequence[Snapshot]) -> Route:
    """Tier asked for, then capability and model, then cost, health, load among those of one model, and the configured
    order: load alone never changes which model answers.

    Raises ModelNotFound when nobody has the model, InputInvalid when those that have it cannot take the request,
    NeverServed when nobody may serve it, and NoProvider when nobody can now; the last two with `details.skipped`.
    """
    needs = None if request.content is None else Needs(request.content)
    able: list[Ranked] = []
    skipped: list[Skipped] = []
    absent, name = _absent(request), entry(request.modality, request.model)
    first: dict[ModelId, int] = {}  # of the places' models for it, in the configured order, whatever their health
    takes_any = request.takes_any_place
    for snapshot in snapshots:
        menu, reason = snapshot.offers, None
        offers = (menu if type(menu) is Menu else Menu.of(menu)).found.get(name, ())
        if len(offers) > 1 or snapshot.only_when_named:
            offers = _meant(request, snapshot, offers)
        if not (offers and takes_any) or snapshot.lacks_key:
            reason = _lasting_reason(request, snapshot, offers, absent)
            if reason is not None:
                skipped.append(Skipped(snapshot.id, reason, True, None))
            elif not offers:
                skipped.append(_unavailable(snapshot))
        for offer in offers:
            place = first.setdefault(offer.model, len(first))
            if reason is None:
                judged = _judged(request, snapshot, offer, needs, place)
                if isinstance(judged, Skipped):
                    skipped.append(judged)
                else:
                    able.append(judged)
    if not able:
        raise _nobody(request, skipped) if first else _nobody_has_it(request, snapshots, skipped)
    able.sort(key=COMPARED)
    depends = needs is None and any(offer.refusal is not takes_all or not is_free(at, offer) for *_, at, offer in able)
    return Route(Candidates(able, request.model, needs), skipped, depends)


def is_unseen(snapshot: Snapshot) -> bool:
    """It has never said what it offers: a node that still starts."""
    return snapshot.health.status == "unavailable" and not snapshot.offers


def offers_for(snapshot: Snapshot, modality: Modality | None, model: str | None) -> Sequence[Offer]:
    """What it offers under that name, its own or an alias, or, without a name, by default. No modality: of any."""
    if not model and snapshot.only_when_named:
        return ()
    return Menu.of(snapshot.offers).named(modality, model or None)


def _meant(request: RoutingRequest, snapshot: Snapshot, offers: Sequence[Offer]) -> Sequence[Offer]:
    """Of those under its name there: one, or all that an alias stands for, or all defaults, as one may refuse what another
    takes."""
    if not request.model:
        return () if snapshot.only_when_named else offers
    return [offer for offer in offers if request.model in offer.aliases] or offers[:1]


def _judged(
    request: RoutingRequest, snapshot: Snapshot, offer: Offer, needs: Needs | None, place: int
) -> Ranked | Skipped:
    """Where it stands among those that can have it, or why it cannot. One call and one tuple: it is made for each place.
    Lasting reasons come first: they stay true when the others pass."""
    if needs is not None and offer.taste not in needs.taken:
        error = refusal_of(offer, needs)
        if error is not None:
            return Skipped(snapshot.id, f"cannot take it: {error.message}", is_lasting=True, error=error)
    if request.max_cost_micro is not None or request.paid_before:
        too_dear = _money_reason(request, offer, quote_at(snapshot, offer, needs))
        if too_dear is not None:
            return Skipped(snapshot.id, too_dear, is_lasting=True)
    status = snapshot.health.status
    if status == "unavailable":
        return _unavailable(snapshot)
    preferred = offer.aliases.get(request.model, 0) if request.model and offer.aliases else 0
    is_free = offer.price is None and snapshot.tier is Tier.BASIC
    load = (offer.waiting + offer.running) / (offer.max_batch or 1)  # tasks there already, in batches
    cost_micro = 0 if is_free else estimated_micro(offer, needs)
    return preferred, cost_micro, _HEALTH_RANK[status], place, load, snapshot, offer


def _unavailable(snapshot: Snapshot) -> Skipped:
    return Skipped(snapshot.id, f"is unavailable: {snapshot.health.reason or 'not seen yet'}", is_lasting=False)


def _money_reason(request: RoutingRequest, offer: Offer, quote: Quote | None) -> str | None:
    """Why it may not be paid for this."""
    most = request.max_cost_micro
    if quote is not None and not quote.bound_micro:
        return None
    if request.paid_before:
        return f"is paid, and a call of {' and '.join(request.paid_before)} may have done this and been paid already"
    if most is None:
        return None
    if quote is None:
        return f"has no known price for {offer.model}, and the request has a max_cost_usd"
    if request.content is not None and quote.bound_micro > most:
        return f"may cost {shown(quote.bound_micro)}, the request's max_cost_usd is {shown(most)}"
    return None


def _absent(request: RoutingRequest) -> str:
    """The reason of a place that has no model for it, in words: most places say the same."""
    if request.model is not None:
        return f"has no {request.modality} model {request.model!r}"
    return f"has no default model for {request.modality}"


def _lasting_reason(request: RoutingRequest, snapshot: Snapshot, offers: Sequence[Offer], absent: str) -> str | None:
    if request.tier is not None and request.tier is not snapshot.tier:
        return f"is of tier {snapshot.tier}, {request.tier} was asked for"
    if request.privacy == "local_only" and snapshot.is_remote:
        return BOXED
    if request.needs_streaming and not snapshot.supports_streaming:
        return "does not stream"
    if offers and snapshot.lacks_key:
        return f"has no key: set {snapshot.key_variable}, or store it as a secret of the organization"
    if offers or is_unseen(snapshot):
        return None
    if request.model is None and snapshot.only_when_named:
        return "serves only requests that name its model"
    return absent


# ---- nobody ----


def _nobody_has_it(request: RoutingRequest, snapshots: Sequence[Snapshot], skipped: Sequence[Skipped]) -> FabricError:
    """ModelNotFound; not while a place that may have the model has not said what it has."""
    if request.model is None or any(is_unseen(snapshot) for snapshot in snapshots):
        return _nobody(request, skipped)
    offers = [offer for snapshot in snapshots for offer in snapshot.offers]
    named = [offer for offer in offers if offer.model == request.model or request.model in offer.aliases]
    served = sorted({offer.modality for offer in named})
    if request.modality in served:
        return _nobody(request, skipped)
    known = ", ".join(sorted({offer.model for offer in offers if offer.modality is request.modality})) or "none"
    what = f"serves {' and '.join(served)}, not {request.modality}" if served else "is not here"
    return ModelNotFound(f"model {request.model!r} {what}: name one of the {request.modality} models: {known}")


def _nobody(request: RoutingRequest, skipped: Sequence[Skipped]) -> FabricError:
    errors = [each.error for each in skipped if each.error is not None]
    if errors and all(each.is_lasting for each in skipped):
        return errors[0]  # of the first in the configured order; what the caller can change
    reasons = "; ".join(f"{each.provider_id} {each.reason}" for each in skipped) or "no provider is configured"
    details = {"skipped": [{"provider_id": each.provider_id, "reason": each.reason} for each in skipped]}
    what = f"{request.modality} model {request.model!r}" if request.model else str(request.modality)
    if all(each.is_lasting for each in skipped):
        message = f"no provider serves {what} as asked for ({reasons}): change tier, model or privacy, or configure one"
        return NeverServed(message, details=details)
    message = f"nothing can serve {what} now ({reasons}): retry when a provider is back"
    return NoProvider(message, details=details, retry_after_s=1.0)
