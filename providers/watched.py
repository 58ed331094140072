"""A server by its URL as a provider: what it has is what it lists, looked at again and again.

Not about its wire (ollama.py, whisper.py, comfyui.py, compatible.py) nor about one call (remote.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from protos.errors import FabricError
from protos.locality import is_local
from protos.types import Estimate, ProviderId, Task, TaskEvent, TaskId, Tier
from providers.base import Health, Menu, Snapshot
from providers.catalog import VendorModel
from providers.keys import VendorKey
from providers.remote import Api, Remote

_LIST_S: Final = 10.0  # for a list to come


@dataclass(frozen=True, slots=True)
class Pace:
    """How often it is looked at, in seconds."""

    healthy_s: float = 10.0  # models come and go when somebody pulls or removes one
    failing_s: Sequence[float] = (0.5, 1.0, 2.0, 5.0)  # the last one repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What kind of place it is. By default one of the user's own, which costs nothing and is away when it is silent."""

    kind: str = ""  # "": its id
    tier: Tier = Tier.BASIC
    is_remote: bool | None = None  # None: where its URL leads
    key: VendorKey | None = None  # None: it wants none
    silent: Literal["unavailable", "degraded"] = "unavailable"


class Listing(Api, Protocol):
    """The wire of a server that tells what it has."""

    async def models(self) -> Sequence[VendorModel]:
        """What it serves now. Raises FabricError when it cannot be reached."""
        ...


class Watched:
    """One server at `url`. `on_change` is called when its models or its health change."""

    def __init__(
        self,
        id: ProviderId,  # noqa: A002  # the protocol's name
        url: str,
        api: Listing,
        on_change: Callable[[], None] = lambda: None,
        *,
        at_once: int,
        pace: Pace | None = None,
        nature: Nature | None = None,
        models: Sequence[VendorModel] = (),
    ) -> None:
        """at_once: calls that it serves side by side; more wait there. models: known before it was ever asked."""
        self.id = id
        self._url, self._api, self._on_change = url, api, on_change
        self._at_once, self._pace = at_once, pace or Pace()
        self._nature = nature or Nature()
        key = self._nature.key or VendorKey(id, f"{id.upper()}_URL", lambda _organization, _variable: None, fixed="")
        self._remote = Remote(id, self._nature.kind or id, api, key, models, tier=self._nature.tier)
        self._health = Health(status="unavailable", reason=f"{url} has not answered yet")
        self._snapshot = self._taken()

    # ---- life ----

    async def start(self) -> None:
        await self._remote.start()
        self._watching = asyncio.create_task(self._watch(), name=f"models of {self.id}")

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})
        await self._remote.close()

    async def _watch(self) -> None:
        failures = 0
        while True:
            self._see(await self._look())
            failures = 0 if self._health.status == "healthy" else failures + 1
            waits = self._pace.failing_s
            await asyncio.sleep(waits[min(failures, len(waits)) - 1] if failures else self._pace.healthy_s)

    async def _look(self) -> Health:
        try:
            async with asyncio.timeout(_LIST_S):
                models = await self._api.models()
        except TimeoutError:
            return Health(status=self._nature.silent, reason=f"{self._url} has not listed its models in {_LIST_S:g} s")
        except FabricError as error:
            return Health(status=self._nature.silent, reason=error.message)
        self._remote.offer(models)
        return Health(status="healthy")

    def _see(self, health: Health) -> None:
        before, self._health = self._snapshot, health
        self._snapshot = self._taken()
        if (before.health, before.offers) != (health, self._snapshot.offers):
            self._on_change()

    # ---- calls ----

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def _taken(self) -> Snapshot:
        seen = self._remote.snapshot()
        return replace(
            seen,
            offers=Menu(replace(offer, max_batch=self._at_once) for offer in seen.offers),
            health=self._health,
            is_remote=not is_local(self._url) if self._nature.is_remote is None else self._nature.is_remote,
        )

    def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        return self._remote.run(task)

    async def cancel(self, task_id: TaskId) -> None:
        await self._remote.cancel(task_id)

    async def estimate(self, task: Task) -> Estimate:
        return await self._remote.estimate(task)
