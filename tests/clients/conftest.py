"""Routers for clients that we did not write: one that has all, in development mode, and one that asks for keys."""

import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from clients.flat import Flat, flat_client
from clients.world import DEFAULT_ORGANIZATION, World, a_world
from edge import Edge, answering
from fabric_platform import FabricClient
from ulid import ULID

from router.settings import RouterSettings

ROOT_KEY = "fab_0123456789abcdef"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with a_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def closed_gate(world: World) -> Iterator[threading.Event]:
    """The node's steps stand still while the test lasts."""
    world.gate.clear()
    yield world.gate
    world.gate.set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A router that asks for keys, and whose node is not there. Its client has the administrator's key."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = RouterSettings(port=0, data_dir=folder, nodes=("127.0.0.1:9",), api_keys=(ROOT_KEY,))
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {ROOT_KEY}"
        yield edge


@pytest.fixture
def org() -> str:
    """Nobody has used it."""
    return f"org-{ULID()}"


@pytest.fixture
def fabric(world: World) -> Iterator[FabricClient]:
    """The client with resources, of the default organization."""
    with FabricClient(base_url=world.url) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def flat(world: World) -> AsyncIterator[Flat]:
    """The flat client of the default organization."""
    async with flat_client(world.url, DEFAULT_ORGANIZATION) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refused(guarded: Edge) -> AsyncIterator[Flat]:
    """The flat client before the router that asks for keys, without one."""
    async with flat_client(guarded.url, "acme") as client:
        yield client
