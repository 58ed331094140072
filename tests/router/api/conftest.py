"""A router with echo alone, and one with a node of fake engines.

One of each serves all tests of a module, each test as an organization of its own; `own_edge` and `own_box` are for tests
that count, break or end what the others use.
"""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering, fake_node
from ulid import ULID

from router.settings import RouterSettings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """No node: only echo answers. Its client is of the default organization."""
    settings = RouterSettings(port=0, data_dir=tmp_path_factory.mktemp("shared"), nodes=())
    async with answering(settings) as edge:
        yield edge


@pytest_asyncio.fixture(loop_scope="module")
async def edge(shared: Edge) -> AsyncIterator[Edge]:
    async with _as_somebody(shared) as edge:
        yield edge


@pytest_asyncio.fixture(loop_scope="module")
async def own_edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=())) as edge:
        yield edge


@pytest.fixture(scope="module")
def shared_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


@pytest.fixture
def gate(shared_gate: threading.Event) -> Iterator[threading.Event]:
    """Open. While a test holds it closed, the node's steps stand still."""
    yield shared_gate
    shared_gate.set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_box(tmp_path_factory: pytest.TempPathFactory, shared_gate: threading.Event) -> AsyncIterator[Edge]:
    """A router and a ready node. Its client is of the default organization."""
    async with _with_node(tmp_path_factory.mktemp("box"), shared_gate) as box:
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def box(shared_box: Edge) -> AsyncIterator[Edge]:
    async with _as_somebody(shared_box) as box:
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def own_box(tmp_path: Path, gate: threading.Event) -> AsyncIterator[Edge]:
    async with _with_node(tmp_path, gate) as box:
        yield box


@asynccontextmanager
async def _as_somebody(edge: Edge) -> AsyncIterator[Edge]:
    """The same router to a client of an organization that nobody has used."""
    headers = {"x-organization-id": f"org-{ULID()}"}
    async with httpx.AsyncClient(base_url=edge.url, timeout=BOUND_S, headers=headers) as client:
        yield replace(edge, client=client)


@asynccontextmanager
async def _with_node(folder: Path, gate: threading.Event) -> AsyncIterator[Edge]:
    async with fake_node(folder / "node", gate) as node:
        settings = RouterSettings(port=0, data_dir=folder, nodes=(node.target,))
        async with answering(settings) as edge:
            await edge.until("/readyz", lambda response: response.status_code == httpx.codes.OK)
            yield edge
