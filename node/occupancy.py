"""Who holds the device's memory and who gets it next: room is made by evicting idle models and waiting for busy ones.

The bound. Who is first in the line claims the busy models in its way, once they have stayed their residency: such a one
takes no new tasks, those that wait for a seat of it are given back to wait outside, and it is unloaded when its seated tasks
have ended. So a model with k others before it in the line has its memory within

    min_residency_s + (k + 1) * (load + residency + seat + unload)

where each term is the longest of all models: a load, a residency (ledger.residency_s), the time that a task holds its seat,
an unload. The first term is for those that may pass it: who waits for less than min_residency_s may be overtaken by a model
that fits without more ado. A task that comes while its model is claimed waits for the end of that claim first; if another
model left instead of its own, the next in the line may claim it too. So of k others in all, that adds at most

    k * (seat + unload)

since a claim begins when the residency is over. What waits longer than load_wait_s is refused by name.

Not about loading and unloading (registry.py) nor about what fits (memory/ledger.py), which is pure.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import assert_never

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
    min_residency_s: float  # a model stays at least so long, or RELOADS times as long as it loads (ledger.py)


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
        recall: Callable[[Entry], None],
        clock: Callable[[], float],
    ) -> None:
        """evict: begins to unload an idle model, whose memory is released later. recall: gives those who wait for a seat
        of a busy one back, who then wait for their turn."""
        self._entries = {entry.spec.id: entry for entry in entries}
        self._capacity_bytes, self._probe, self._residency = capacity_bytes, probe, residency
        self._evict, self._recall, self._clock = evict, recall, clock
        self._reserved: dict[ModelId, int] = {}
        self._claims: dict[ModelId, frozenset[ModelId]] = {}  # by the model that waits: whose memory it waits for
        self._line: dict[ModelId, float] = {}  # who wants memory, since when; in the order in which they came
        # Replaced at each ring: who waits holds the one that will be set. Tasks wait for the second, which are many.
        self._freed, self._unclaimed = asyncio.Event(), asyncio.Event()

    @property
    def ledger(self) -> Ledger:
        return Ledger(self._capacity_bytes, self._probe.foreign_bytes(), dict(self._reserved))

    def decision(self, entry: Entry) -> Decision:
        """What loading it now would take."""
        return decide(self.ledger, entry.needed_bytes, self._residents(), self._residency.min_residency_s)

    def decision_in_the_end(self, entry: Entry) -> Decision:
        """What loading it would take if all that is loaded were idle and had stayed its residency."""
        return decide(
            self.ledger, entry.needed_bytes, [replace(r, is_busy=False, age_s=inf) for r in self._loaded()], 0.0
        )

    def reserve(self, entry: Entry, count: int) -> None:
        """In place of what was reserved for it before, if anything."""
        self._reserved[entry.spec.id] = count

    def release(self, entry: Entry) -> None:
        self._reserved.pop(entry.spec.id, None)

    def tell_freed(self) -> None:
        """Memory was released, or a model became idle: who waits looks again."""
        self._freed.set()
        self._freed = asyncio.Event()

    def is_claimed(self, entry: Entry) -> bool:
        """Another model waits for its memory: it has had its turn."""
        return any(entry.spec.id in claimed for claimed in self._claims.values())

    async def turn_of(self, entry: Entry) -> None:
        """Returns when no other model waits for its memory."""
        while self.is_claimed(entry):
            await self._unclaimed.wait()

    async def make_room(self, entry: Entry) -> None:
        """Returns with the memory reserved. Evicts idle models; waits for busy ones, up to load_wait_s."""
        self._line[entry.spec.id] = self._clock()
        try:
            async with asyncio.timeout(self._residency.load_wait_s):
                while not self._has_memory(entry):
                    await self._wait_for_change()
        except TimeoutError as error:
            raise self._waited_in_vain(entry) from error
        finally:
            del self._line[entry.spec.id]
            self._set_claim(entry, frozenset())
            self.tell_freed()

    def _has_memory(self, entry: Entry) -> bool:
        """Reserves what it needs, or sees to it that it will be free. Raises DoesNotFit."""
        decision = self.decision(entry)
        match decision:
            case Refuse(_, capacity_bytes):
                raise never_fits(entry, self._capacity_bytes, self._capacity_bytes - capacity_bytes)
            case _ if self._lets_pass(entry):
                return False
            case Load():
                self.reserve(entry, entry.needed_bytes)
                return True
            case Evict(models):
                for model in models:
                    log.info("unloading model %s to make room for %s", model, entry.spec.id)
                    self._evict(self._entries[model])
                return False
            case Wait():
                if entry.spec.id == next(iter(self._line)):
                    self._claim(entry)
                return False
            case _:
                assert_never(decision)

    def _lets_pass(self, entry: Entry) -> bool:
        """One that came before it has waited so long that nobody may take memory before it."""
        others = itertools.takewhile(lambda model: model != entry.spec.id, self._line)
        return any(self._clock() - self._line[other] >= self._residency.min_residency_s for other in others)

    def _claim(self, entry: Entry) -> None:
        """The loaded models that `entry` waits for must take no new tasks until it has its memory."""
        before, loaded = self._claims.get(entry.spec.id, frozenset()), self._loaded()
        # Those that it has claimed, as long as they are enough: another choice would wait for other seats from the beginning.
        claimed = self._in_its_way(entry, [r for r in loaded if r.model in before]) or self._in_its_way(entry, loaded)
        self._set_claim(entry, claimed)
        for model in claimed - before:
            self._recall(self._entries[model])

    def _in_its_way(self, entry: Entry, residents: Sequence[Resident]) -> frozenset[ModelId]:
        return frozenset(claims(self.ledger, entry.needed_bytes, residents, self._residency.min_residency_s))

    def _set_claim(self, entry: Entry, claimed: frozenset[ModelId]) -> None:
        if claimed != self._claims.get(entry.spec.id, frozenset()):
            self._claims[entry.spec.id] = claimed
            self._unclaimed.set()
            self._unclaimed = asyncio.Event()
        if not claimed:
            self._claims.pop(entry.spec.id, None)

    async def _wait_for_change(self) -> None:
        """Until memory is released, a model is given back, or one has stayed its residency."""
        stays = [r.stays_s(self._residency.min_residency_s) for r in self._residents()]
        try:
            async with asyncio.timeout(min((stay_s for stay_s in stays if stay_s), default=None)):
                await self._freed.wait()
        except TimeoutError:
            return

    def _waited_in_vain(self, entry: Entry) -> LoadFailed:
        ledger = self.ledger
        foreign = f", other processes hold {size(ledger.foreign_bytes)}" if ledger.foreign_bytes else ""
        return LoadFailed(
            f"model {entry.spec.id!r} needs {size(entry.needed_bytes)}, {size(max(0, ledger.free_bytes))} are free{foreign} "
            f"and the other models were busy for {self._residency.load_wait_s:g} s: retry later, or give the node fewer models"
        )

    def _loaded(self) -> list[Resident]:
        return [r for r in self._residents() if self._entries[r.model].engine is not None]

    def _residents(self) -> list[Resident]:
        now_s = self._clock()
        return [
            Resident(
                model=entry.spec.id,
                is_busy=entry.leases > 0 or entry.engine is None or entry.unloading is not None,
                age_s=now_s - entry.since_s,
                arrivals_per_s=entry.arrivals.at(now_s),
                reload_s=entry.measured.load_s if entry.measured else 0.0,
                is_pinned=entry.spec.pin,
            )
            for entry in self._entries.values()
            if entry.spec.id in self._reserved
        ]
