"""The places that a request may go to, best first, each with what it costs and why it stands there. Pure.

Not about who may be one and in which order (routing.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias, overload

from protos.errors import InputInvalid
from protos.types import ModelId, ProviderId
from providers.base import Offer, Snapshot, takes_all
from providers.pricing import Price
from router.quotes import FREE, Needs, quote_at
from router.spending import Quote, shown


class Candidate(NamedTuple):
    provider_id: ProviderId
    model: ModelId
    why: str | Callable[[], str]  # told when somebody asks: words take longer than the decision
    quote: Quote | None = FREE  # None: nobody knows what it costs
    price: Price | None = None
    is_choosy: bool = False  # there are requests that it cannot take
    is_remote: bool = False  # a call of it leaves the box

    @property
    def reason(self) -> str:
        return self.why if isinstance(self.why, str) else self.why()

    @property
    def is_paid(self) -> bool:
        return self.quote is None or self.price is not None or self.quote.bound_micro > 0


class Skipped(NamedTuple):
    provider_id: ProviderId
    reason: str
    is_lasting: bool  # no change of its health makes it a candidate
    error: InputInvalid | None = None  # it has the model, which cannot take what is asked


# What is compared, then what a candidate is made of.
Ranked: TypeAlias = tuple[int, float, int, int, float, Snapshot, Offer]
COMPARED: Final = itemgetter(slice(5))  # equal ones stay in the configured order


class Candidates(Sequence[Candidate]):
    """The able ones in their order, each made when it is asked for: a call needs the first, and there may be fifty."""

    def __init__(self, ranked: Sequence[Ranked], name: str | None, needs: Needs | None) -> None:
        self._ranked, self._name, self._needs = ranked, name, needs

    def __len__(self) -> int:
        return len(self._ranked)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> "Candidates": ...
    def __getitem__(self, index: int | slice) -> "Candidate | Candidates":
        if isinstance(index, slice):
            return Candidates(self._ranked[index], self._name, self._needs)
        snapshot, offer = self._ranked[index][-2:]
        quote = quote_at(snapshot, offer, self._needs)
        why = partial(_told, self._name, snapshot, offer, quote)
        is_choosy = offer.refusal is not takes_all
        return Candidate(snapshot.id, offer.model, why, quote, offer.price, is_choosy, snapshot.is_remote)


def _told(name: str | None, snapshot: Snapshot, offer: Offer, quote: Quote | None) -> str:
    """Why a candidate stands where it stands."""
    preferred = offer.aliases.get(name or "")
    named = "" if preferred is None else f"is choice {preferred + 1} of {name!r}, "
    return (
        f"{named}serves {offer.model}, {_cost_told(quote)}, is {snapshot.health.status}, has "
        f"{offer.waiting + offer.running} tasks in batches of {offer.max_batch}"
    )


def _cost_told(quote: Quote | None) -> str:
    if quote is None:
        return "costs nobody knows what"
    if not quote.bound_micro:
        return "costs nothing"
    return f"costs about {shown(quote.estimated_micro)} and at most {shown(quote.bound_micro)}"
