"""What a request should cost at one place, and the most that it can: from the place's price and the request. Pure.

Not about prices and how many tokens a text is (providers/pricing.py), nor about budgets (spending.py).
"""

from dataclasses import dataclass

from protos.types import ImageRequest, TaskRequest, TextRequest, Tier, Usage
from providers.base import Offer, Snapshot
from providers.pricing import Bounds, cost_micro, expected_usage, most_usage, output_limit, size_of, typical_cost_micro
from router.spending import Quote


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs of any place, counted once: a long text is slow to count, and there may be many places."""

    request: TaskRequest
    expected: Usage
    most: Usage

    @classmethod
    def of(cls, request: TaskRequest) -> "Needs":
        return cls(request, expected_usage(request, Bounds()), most_usage(request, Bounds()))

    def at(self, bounds: Bounds) -> tuple[Usage, Usage]:
        """The usage to expect of a model with these bounds, and the most there can be."""
        match self.request:
            case TextRequest():
                limit = output_limit(self.request, bounds)
                read, most = self.expected.input_tokens, self.most.input_tokens  # all that is used of a text but this
                return Usage(input_tokens=read, output_tokens=limit), Usage(input_tokens=most, output_tokens=limit)
            case ImageRequest():  # charged by the picture or by the token, as the model is; its prompt is short
                return expected_usage(self.request, bounds), most_usage(self.request, bounds)
            case _:
                return self.expected, self.most


FREE = Quote()


def is_free(snapshot: Snapshot, offer: Offer) -> bool:
    """Without a price a place of tier basic costs nothing; what another would cost is not known."""
    return offer.price is None and snapshot.tier is Tier.BASIC


def quote_of(offer: Offer, needs: Needs | None) -> Quote | None:
    """needs: None where the request is not known yet, then of a typical one. None: nobody has said what it costs."""
    if offer.price is None:
        return None
    if needs is None:
        typical = typical_cost_micro(offer.price, offer.bounds)
        return Quote(estimated_micro=typical, bound_micro=typical)
    expected, most = needs.at(offer.bounds)
    size = size_of(needs.request)
    return Quote(
        estimated_micro=cost_micro(expected, offer.price, size), bound_micro=cost_micro(most, offer.price, size)
    )
