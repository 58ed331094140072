"""Who holds the device's memory and who gets it next: room is made by evicting idle models and waiting for busy ones.

Not about loading and unloading (registry.py) nor about what fits (memory/ledger.py), which is pure.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.entries import Entry, never_fits, size
from node.memory.devices import Probe
from node.memory.ledger import Decision, Evict, Ledger, Load, Refuse, Resident, Wait, claims, decide
from protos.errors import LoadFailed
from protos.types import ModelId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """When models come and go."""

    load_wait_s: float  # a task whose model finds no memory for so long is refused
    load_retry_s: float  # after a failed load, until a request may try again
    min_residency_s: float  # a model stays at least so long


class Occupancy:
    """The reservations of one device, and the line for them. Event loop only."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        capacity_bytes: int,
        probe: Probe,
        residency: Residency,
        evict: Callable[[Entry], None],
        clock: Callable[[], float],
    ) -> None:
        """evict: begins to unload an idle model, whose memory is released later."""
        self._entries = {entry.spec.id: entry for entry in entries}
        self._capacity_bytes, self._probe, self._residency = capacity_bytes, probe, residency
        self._evict, self._clock, self._began_s = evict, clock, clock()
        self._reserved: dict[ModelId, int] = {}
        self._claims: dict[ModelId, frozenset[ModelId]] = {}  # by the model that waits: whose memory it waits for
        self._freed = asyncio.Event()  # replaced at each ring: who waits holds the one that will be set

    @property
    def ledger(self) -> Ledger:
        return Ledger(self._capacity_bytes, self._probe.foreign_bytes(), dict(self._reserved))

    def decision(self, entry: Entry) -> Decision:
        """What loading it now would take."""
        return decide(self.ledger, entry.needed_bytes, self._residents(), self._residency.min_residency_s)

    def reserve(self, entry: Entry, count: int) -> None:
        """In place of what was reserved for it before, if anything."""
        self._reserved[entry.spec.id] = count

    def release(self, entry: Entry) -> None:
        self._reserved.pop(entry.spec.id, None)

    def tell_freed(self) -> None:
        """Memory was released, or a model became idle: who waits looks again."""
        self._freed.set()
        self._freed = asyncio.Event()

    async def turn_of(self, entry: Entry) -> None:
        """Returns when no other model waits for its memory: until then it has had its turn."""
        while any(entry.spec.id in claimed for claimed in self._claims.values()):
            await self._freed.wait()

    async def make_room(self, entry: Entry) -> None:
        """Returns with the memory reserved. Evicts idle models; waits for busy ones, up to load_wait_s."""
        try:
            async with asyncio.timeout(self._residency.load_wait_s):
                while True:
                    decision = self.decision(entry)
                    match decision:
                        case Load():
                            self.reserve(entry, entry.needed_bytes)
                            return
                        case Evict(models):
                            for model in models:
                                log.info("unloading model %s to make room for %s", model, entry.spec.id)
                                self._evict(self._entries[model])
                            await self._freed.wait()
                        case Wait():
                            self._claims[entry.spec.id] = frozenset(self._claimed_by(entry))
                            await self._wait_for_memory()
                        case Refuse():
                            raise never_fits(entry, self._capacity_bytes)
        except TimeoutError as error:
            free = self.ledger.free_bytes
            raise LoadFailed(
                f"model {entry.spec.id!r} needs {size(entry.needed_bytes)}, {size(max(0, free))} are free and the other models "
                f"were busy for {self._residency.load_wait_s:g} s: retry later, or give the node fewer models"
            ) from error
        finally:
            if self._claims.pop(entry.spec.id, None):
                self.tell_freed()

    def _claimed_by(self, entry: Entry) -> Sequence[ModelId]:
        """The loaded models that must take no new tasks until `entry` has its memory."""
        loaded = [r for r in self._residents() if self._entries[r.model].engine is not None]
        return claims(self.ledger, entry.needed_bytes, loaded, self._residency.min_residency_s)

    async def _wait_for_memory(self) -> None:
        """Until a model is given back, or has stayed its minimum."""
        ages = [self._age_s(e) for e in self._entries.values() if e.engine is not None]
        remaining = [self._residency.min_residency_s - age for age in ages if age < self._residency.min_residency_s]
        try:
            async with asyncio.timeout(min(remaining, default=None)):
                await self._freed.wait()
        except TimeoutError:
            return

    def _age_s(self, entry: Entry) -> float:
        return self._clock() - entry.since_s

    def _residents(self) -> list[Resident]:
        uptime_s = max(1.0, self._clock() - self._began_s)
        return [
            Resident(
                model=entry.spec.id,
                is_busy=entry.leases > 0 or entry.engine is None or entry.unloading is not None,
                age_s=self._age_s(entry),
                arrivals_per_s=entry.uses / uptime_s,
                reload_s=entry.measured.load_s if entry.measured else 0.0,
            )
            for entry in self._entries.values()
            if entry.spec.id in self._reserved
        ]
