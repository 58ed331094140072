"""The memory ledger of one device: may this model be loaded now, and who would have to go? Pure.

A model that others want the memory of stays for its residency: long enough that loading takes a small share of the time.
Not about measuring (host.py, nvml.py), nor about who waits for how long (occupancy.py), nor about loading (registry.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from protos.types import ModelId

MARGIN: Final = 1.2  # over the bytes of the files, before the first load has measured: buffers, pools and activations
MARGIN_BYTES: Final = 64 << 20  # and for the smallest models, whose activations outweigh their weights
RELOADS: Final = (
    3.0  # a model stays for so many times as long as it loads: models that take turns load a quarter of the time
)
_INSTANT_S: Final = 1e-6  # what is left of a wait that has passed, by the rounding of a clock: not worth another timer
_FORGET_S: Final = 300.0  # a request of so long ago counts 1/e of one of now; the default keep_alive


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How often a model is asked for, lately."""

    per_s: float = 0.0
    at_s: float = 0.0

    def at(self, now_s: float) -> float:
        return self.per_s * math.exp((self.at_s - now_s) / _FORGET_S)

    def plus(self, now_s: float) -> "Arrivals":
        """One more came now."""
        return Arrivals(self.at(now_s) + 1 / _FORGET_S, now_s)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the device has and what of it is promised. `reservations`: measured peaks of what is loaded or loading."""

    capacity_bytes: int
    foreign_bytes: int = 0  # held by other processes: never promised
    reservations: Mapping[ModelId, int] = field(default_factory=dict)

    @property
    def reserved_bytes(self) -> int:
        return sum(self.reservations.values())

    @property
    def free_bytes(self) -> int:
        return self.capacity_bytes - self.foreign_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A loaded model as a candidate for eviction."""

    model: ModelId
    is_busy: bool  # has tasks, or is loading
    age_s: float  # since it was loaded
    arrivals_per_s: float
    reload_s: float
    is_pinned: bool = False  # never goes

    def stays_s(self, min_residency_s: float) -> float:
        """How long nobody may have its memory yet."""
        left_s = residency_s(self.reload_s, min_residency_s) - self.age_s
        return left_s if left_s > _INSTANT_S else 0.0

    def value(self, reserved_bytes: int) -> float:
        """Seconds of reloading that evicting it would cost per second and byte."""
        return self.arrivals_per_s * self.reload_s / max(1, reserved_bytes)


@dataclass(frozen=True, slots=True)
class Load:
    """There is room."""


@dataclass(frozen=True, slots=True)
class Evict:
    """There is room once these are gone."""

    models: Sequence[ModelId]


@dataclass(frozen=True, slots=True)
class Wait:
    """There will be room when busy models become idle or have stayed their minimum."""

    missing_bytes: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """There can never be room."""

    needed_bytes: int
    capacity_bytes: int  # without what pinned models hold


Decision: TypeAlias = Load | Evict | Wait | Refuse


def expected_bytes(file_bytes: int) -> int:
    """What a model of that many bytes of files may need, before anything was measured."""
    return int(file_bytes * MARGIN) + MARGIN_BYTES


def residency_s(reload_s: float, min_residency_s: float) -> float:
    """How long a model stays at least."""
    return max(min_residency_s, RELOADS * reload_s)


def decide(ledger: Ledger, needed_bytes: int, residents: Sequence[Resident], min_residency_s: float) -> Decision:
    """What must happen so that `needed_bytes` can be reserved. Evicts the fewest of least value, never a busy one."""
    pinned_bytes = sum(ledger.reservations[r.model] for r in residents if r.is_pinned)
    if needed_bytes > ledger.capacity_bytes - pinned_bytes:
        return Refuse(needed_bytes, ledger.capacity_bytes - pinned_bytes)
    missing = needed_bytes - ledger.free_bytes
    if missing <= 0:
        return Load()
    idle = [r for r in residents if not r.is_busy and not r.is_pinned and not r.stays_s(min_residency_s)]
    victims: list[ModelId] = []
    freed = 0
    for resident in sorted(idle, key=lambda r: r.value(ledger.reservations[r.model])):
        if freed >= missing:
            break
        victims.append(resident.model)
        freed += ledger.reservations[resident.model]
    return Evict(_without_needless(ledger, victims, missing)) if freed >= missing else Wait(missing - freed)


def claims(
    ledger: Ledger, needed_bytes: int, residents: Sequence[Resident], min_residency_s: float
) -> Sequence[ModelId]:
    """Who must take no new tasks, so that a model that waits gets its turn: those that would go if they were idle."""
    decision = decide(ledger, needed_bytes, [replace(r, is_busy=False) for r in residents], min_residency_s)
    return decision.models if isinstance(decision, Evict) else ()


def _without_needless(ledger: Ledger, victims: Sequence[ModelId], missing: int) -> list[ModelId]:
    """The victims, most valuable ones spared where the others free enough."""
    kept = list(victims)
    for model in reversed(victims):
        others = sum(ledger.reservations[other] for other in kept if other != model)
        if others >= missing:
            kept.remove(model)
    return kept
