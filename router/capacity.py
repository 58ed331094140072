"""How many jobs of each lane a router may claim: as many as keep twice the largest batch of every place busy. Pure.

Twice: one batch runs while the next waits at the node, so the device never waits for the router; more would only wait
there, out of reach of those with a higher priority that come later.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from protos.types import Modality, ModelId, ProviderId
from providers.base import Snapshot
from router.jobs import DEFAULT_LANE
from router.routing import is_unseen, offers_for

BATCHES: Final = 2
UNSERVED_ROOM: Final = 64  # jobs of a lane that nobody serves, taken at a time to be failed


@dataclass(frozen=True, slots=True)
class Place:
    """One model at one provider: what runs there shares its batches."""

    provider_id: ProviderId
    model: ModelId


def rooms(lanes: Sequence[str], snapshots: Sequence[Snapshot], running: Mapping[Place, int]) -> dict[str, int]:
    """How many of each lane to claim; lanes with none are absent. Lanes that share a place get equal parts of it.

    A lane that nobody serves gets room too, so that its jobs fail with a reason, but not while a provider has never
    been seen: it may be the one that serves it.
    """
    places = {lane: _places(lane, snapshots) for lane in lanes}
    sharers = Counter(place for lane in lanes for place in places[lane])
    free = {
        place: max(BATCHES * batch - running.get(place, 0), 0) for of in places.values() for place, batch in of.items()
    }
    room = {lane: sum(ceil(free[place] / sharers[place]) for place in places[lane]) for lane in lanes}
    if not any(is_unseen(snapshot) for snapshot in snapshots):
        room |= {lane: UNSERVED_ROOM for lane in lanes if not _is_known(lane, snapshots)}
    return {lane: count for lane, count in room.items() if count}


def _places(lane: str, snapshots: Sequence[Snapshot]) -> dict[Place, int]:
    """Where jobs of the lane can run now, each with its largest batch."""
    modality, model = _wanted(lane)
    return {
        Place(snapshot.id, offer.model): offer.max_batch
        for snapshot in snapshots
        if snapshot.health.status != "unavailable"
        for offer in offers_for(snapshot, modality, model)
    }


def _is_known(lane: str, snapshots: Sequence[Snapshot]) -> bool:
    return any(offers_for(snapshot, *_wanted(lane)) for snapshot in snapshots)


def _wanted(lane: str) -> tuple[Modality | None, str | None]:
    """The modality and the model that jobs of the lane want."""
    name = lane.removeprefix(DEFAULT_LANE)
    is_default = lane.startswith(DEFAULT_LANE) and name in {modality.value for modality in Modality}
    return (Modality(name), None) if is_default else (None, lane)
