"""A router and a node inside the test's own event loop, on real sockets: the fake engine, echo, nothing patched."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from node.daemon import Daemon
from node.engine import DeviceSpec, LoadEngine, ModelSpec
from node.engines.fake import FakeEngine, Faults
from node.settings import NodeSettings
from router.api.context import Parts
from router.app import Server, build_app
from router.settings import RouterSettings, bind

BOUND_S = 120.0  # on every wait of a test: far above what it takes on two busy cores

CATALOG = """
[[model]]
id = "fake-text"
engine = "fake"
modality = "text"
default = true
preload = true
seats = 4
waiting_limit = 8

[[model]]
id = "fake-embedding"
engine = "fake"
modality = "embedding"
default = true
preload = true

[[model]]
id = "fake-image"
engine = "fake"
modality = "image"
default = true
preload = true

[[model]]
id = "fake-audio"
engine = "fake"
modality = "audio"
default = true
preload = true
"""


def catalog(folder: Path) -> Path:
    path = folder / "models.toml"
    path.write_text(CATALOG)
    return path


@asynccontextmanager
async def fake_node(folder: Path, gate: threading.Event | None = None) -> AsyncIterator[Daemon]:
    """A node with a fake engine of each modality. While `gate` is not set its steps stand still."""
    folder.mkdir(parents=True, exist_ok=True)

    def load(spec: ModelSpec, _device: DeviceSpec) -> FakeEngine:
        return FakeEngine(spec, faults=Faults(gate=gate))

    def loader(_name: str) -> LoadEngine:
        return load

    settings = NodeSettings(
        listen="127.0.0.1:0", device="cpu", models_path=catalog(folder), data_dir=folder, drain_timeout_s=0.1
    )
    async with Daemon(settings, loader) as daemon:
        try:
            yield daemon
        finally:
            if gate is not None:
                gate.set()  # a closed one would hold the device's thread


@dataclass(frozen=True)
class Edge:
    """A running router and a client of it."""

    url: str
    client: httpx.AsyncClient
    parts: Parts
    server: Server

    async def ended(self, job_id: str) -> dict[str, object]:
        """The job, once it has ended."""
        await self.client.get(f"/v1/jobs/{job_id}/events")
        job: dict[str, object] = (await self.client.get(f"/v1/jobs/{job_id}")).json()["data"]
        return job

    async def until(self, path: str, is_so: Callable[[httpx.Response], bool]) -> httpx.Response:
        """The first answer of which it is so."""
        async with asyncio.timeout(BOUND_S):
            while not is_so(response := await self.client.get(path)):  # noqa: ASYNC110 - a client has nothing else
                await asyncio.sleep(0.02)
        return response


@asynccontextmanager
async def answering(settings: RouterSettings) -> AsyncIterator[Edge]:
    """A router that answers, ended as SIGTERM would."""
    listener, app = bind(settings), build_app(settings)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with app.router.lifespan_context(app):
        server = Server(app)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
                yield Edge(url, client, app.state.parts, server)
        finally:
            server.stop()
            async with asyncio.timeout(BOUND_S):
                await serving
