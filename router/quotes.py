"""What a request should cost at one place, the most that it can, and whether the place can take it at all: from what the
place offers and the request. Pure.

Not about prices and how many tokens a text is (providers/pricing.py), nor about budgets (spending.py).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from protos.errors import InputInvalid
from protos.types import ImageRequest, TaskRequest, TextRequest, Tier, Usage
from providers.base import Offer, Snapshot
from providers.pricing import Bounds, cost_micro, expected_usage, most_usage, output_limit, size_of, typical_cost_micro
from router.spending import Quote

_SURELY: Final = 1.5  # a text of so many times the context's tokens is too long, however they are counted


@dataclass(frozen=True)
class Needs:
    """What a request needs of any place, counted when the first place wants to know: a long text is slow to count."""

    request: TaskRequest

    @cached_property
    def expected(self) -> Usage:
        return expected_usage(self.request, Bounds())

    @cached_property
    def most(self) -> Usage:
        return most_usage(self.request, Bounds())

    @cached_property
    def size(self) -> str:
        return size_of(self.request)

    @cached_property
    def taken(self) -> set[str]:
        """The tastes whose offers can take it: one of each is asked while none refuses it."""
        return set()

    @cached_property
    def _usages(self) -> dict[str, tuple[Usage, Usage]]:
        return {}

    def at(self, offer: Offer) -> tuple[Usage, Usage]:
        """The usage to expect of the model, and the most there can be: the same for offers of one taste."""
        usages = self._usages.get(offer.taste) if offer.taste else None
        if usages is None:
            usages = self._usages[offer.taste] = self._within(offer.bounds)
        return usages

    def _within(self, bounds: Bounds) -> tuple[Usage, Usage]:
        match self.request:
            case TextRequest() as request:
                limit = output_limit(request, bounds) * request.n
                expected, most = self.expected, self.most
                if expected.output_tokens == limit:  # as of all places whose models may write as much as was asked for
                    return expected, most
                return replace(expected, output_tokens=limit), replace(most, output_tokens=limit)
            case ImageRequest():  # charged by the picture or by the token, as the model is; its prompt is short
                return expected_usage(self.request, bounds), most_usage(self.request, bounds)
            case _:
                return self.expected, self.most


FREE: Final = Quote()


def refusal_of(offer: Offer, needs: Needs) -> InputInvalid | None:
    """Why the model cannot take the request; None: it can, as far as can be told without it."""
    if offer.taste in needs.taken:
        return None
    error = _too_long(offer, needs) or offer.refusal(needs.request)
    if error is None and offer.taste:
        needs.taken.add(offer.taste)
    return error


def _too_long(offer: Offer, needs: Needs) -> InputInvalid | None:
    request, context, limit = needs.request, offer.context_tokens, offer.bounds.max_output_tokens
    if not isinstance(request, TextRequest):
        return None
    if limit and request.max_tokens is not None and request.max_tokens > limit:
        return InputInvalid.at("params.max_tokens", f"is {request.max_tokens}: {offer.model} writes {limit} at most")
    if context and needs.most.input_tokens > context and needs.expected.input_tokens > context * _SURELY:
        told = f"is about {needs.expected.input_tokens} tokens long: {offer.model} reads {context} at most"
        return InputInvalid.at("input", told)
    return None


def is_free(snapshot: Snapshot, offer: Offer) -> bool:
    """Without a price a place of tier basic costs nothing; what another would cost is not known."""
    return offer.price is None and snapshot.tier is Tier.BASIC


def quote_at(snapshot: Snapshot, offer: Offer, needs: Needs | None) -> Quote | None:
    """None: nobody knows what it costs there."""
    return FREE if is_free(snapshot, offer) else quote_of(offer, needs)


def estimated_micro(offer: Offer, needs: Needs | None) -> float:
    """What it should cost at a place that is not free: as its quote says, without the rest of it. Infinity: not known."""
    if offer.price is None:
        return math.inf
    if needs is None:
        return typical_cost_micro(offer.price, offer.bounds)
    return cost_micro(needs.at(offer)[0], offer.price, needs.size)


def quote_of(offer: Offer, needs: Needs | None) -> Quote | None:
    """needs: None where the request is not known yet, then of a typical one. None: nobody has said what it costs."""
    if offer.price is None:
        return None
    if needs is None:
        typical = typical_cost_micro(offer.price, offer.bounds)
        return Quote(estimated_micro=typical, bound_micro=typical)
    expected, most = needs.at(offer)
    return Quote(
        estimated_micro=cost_micro(expected, offer.price, needs.size),
        bound_micro=cost_micro(most, offer.price, needs.size),
    )
