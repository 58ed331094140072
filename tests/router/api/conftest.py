"""A router with echo alone, and one with a node of fake engines."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from edge import Edge, answering, fake_node

from router.settings import RouterSettings


@pytest_asyncio.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """No node: only echo answers."""
    async with answering(RouterSettings(port=0, data_dir=tmp_path, nodes=())) as edge:
        yield edge


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """As `edge`, one for all tests of a module that leave no trace."""
    settings = RouterSettings(port=0, data_dir=tmp_path_factory.mktemp("shared"), nodes=())
    async with answering(settings) as edge:
        yield edge


@pytest.fixture
def gate() -> threading.Event:
    """Open. While a test holds it closed, the node's steps stand still."""
    gate = threading.Event()
    gate.set()
    return gate


@pytest_asyncio.fixture
async def box(tmp_path: Path, gate: threading.Event) -> AsyncIterator[Edge]:
    """A router and a ready node."""
    async with fake_node(tmp_path / "node", gate) as node:
        settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(node.target,))
        async with answering(settings) as edge:
            await edge.until("/readyz", lambda response: response.status_code == httpx.codes.OK)
            try:
                yield edge
            finally:
                gate.set()
