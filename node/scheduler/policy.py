"""Whose turn it is: start-time fair queueing on measured device seconds. Pure functions of frozen state.

Source: Goyal, Vin, Cheng 1996, "Start-time Fair Queueing", with the length of a step charged after it was measured; and
Jin, Chase, Kaur 2004, "Interposed Proportional Sharing", for engines whose step runs beside the others: such a one is
launched when its account is the lowest, and charged when its step is back.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from protos.types import ModelId

WAKE_CREDIT_S = 0.05  # one CPU quantum: who wakes goes first, and has no more than one turn in hand


@dataclass(frozen=True, slots=True)
class Lane:
    """One engine's account. `virtual_s`: device seconds it was charged, divided by its weight."""

    weight: float
    virtual_s: float


@dataclass(frozen=True, slots=True)
class Shares:
    """All accounts. `now_s`: the virtual time of the system, which is the start tag of the lane picked last."""

    lanes: Mapping[ModelId, Lane] = field(default_factory=dict)
    now_s: float = 0.0


def join(shares: Shares, model: ModelId, weight: float) -> Shares:
    """A new lane, which has had nothing and is owed nothing."""
    return _with(shares, model, Lane(weight, shares.now_s))


def leave(shares: Shares, model: ModelId) -> Shares:
    return replace(shares, lanes={other: lane for other, lane in shares.lanes.items() if other != model})


def wake(shares: Shares, model: ModelId) -> Shares:
    """The lane has work again: the time it was idle is forgotten but for a small credit. Its debts are not."""
    lane = shares.lanes[model]
    return _with(shares, model, replace(lane, virtual_s=max(lane.virtual_s, shares.now_s - WAKE_CREDIT_S)))


def pick(shares: Shares, runnable: Collection[ModelId]) -> tuple[ModelId, Shares]:
    """The runnable lane that has had the least; of equals the first by name, so that a trace replays."""
    chosen = min(runnable, key=lambda model: (shares.lanes[model].virtual_s, model))
    return chosen, replace(shares, now_s=max(shares.now_s, shares.lanes[chosen].virtual_s))


def charge(shares: Shares, model: ModelId, device_s: float) -> Shares:
    lane = shares.lanes[model]
    return _with(shares, model, replace(lane, virtual_s=lane.virtual_s + device_s / lane.weight))


def device_seconds(wall_s: float, beside_threads: int, device_threads: int) -> float:
    """What a step is charged: the loop thread's time, in which the whole device is its; beside it the part it takes."""
    return wall_s * beside_threads / device_threads if beside_threads else wall_s


def quantum(busy: Collection[ModelId], quantum_s: float) -> float | None:
    """How long a step should take: bounded only while another lane has work, else it may fill the device."""
    return quantum_s if len(busy) > 1 else None


def _with(shares: Shares, model: ModelId, lane: Lane) -> Shares:
    return replace(shares, lanes={**shares.lanes, model: lane})
