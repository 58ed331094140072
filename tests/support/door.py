"""A router's gRPC door inside the test's own event loop, on a real socket, over whatever places it is given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from edge import BOUND_S

from protos.types import NodeId
from providers.base import Provider, Snapshot
from providers.registry import ProviderRegistry
from router.accounts import Accounts
from router.grpc import CheckKey, door
from router.principals import DEVELOPER
from router.service import RouterService
from router.settings import RouterSettings
from router.store.sql import SqlStore


@dataclass(frozen=True)
class Door:
    target: str
    service: RouterService
    registry: ProviderRegistry
    store: SqlStore


class Bell:
    """An `on_change`, and waiting for what it tells of."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def __call__(self) -> None:
        self._rung.set()

    async def until_healthy(self, *places: Provider) -> None:
        await self.until(lambda seen: seen.health.status == "healthy", *places)

    async def until(self, is_so: Callable[[Snapshot], bool], *places: Provider) -> None:
        async with asyncio.timeout(BOUND_S):
            while not all(is_so(place.snapshot()) for place in places):
                await self._rung.wait()
                self._rung.clear()


@asynccontextmanager
async def open_door(
    folder: Path, places: Sequence[Provider], check_key: CheckKey = lambda _: DEVELOPER, **settings: object
) -> AsyncIterator[Door]:
    """The places are started and closed with it."""
    chosen = RouterSettings(**{"data_dir": folder, "grpc_port": 0} | settings)  # type: ignore[arg-type]  # many types
    registry = ProviderRegistry(places)
    await registry.start()
    store = SqlStore("sqlite://", lambda _: None)
    await store.open()
    accounts = Accounts(store)
    service = RouterService(NodeId("router"), chosen, registry, accounts, "test")
    try:
        async with door(chosen, service, check_key) as target:
            yield Door(target, service, registry, store)
    finally:
        await registry.close()
        await accounts.close()
        await store.close()
