"""A router and a node as processes of their own: of a fake engine, for benchmarks of all that is around one, or of `catalog`."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

ROOT: Final = Path(__file__).resolve().parents[3]
READY_S: Final = 180.0  # a node of real models loads them first, on a machine that may do more than that
CATALOG: Final = """
[[model]]
id = "fake-text"
engine = "fake"
modality = "text"
default = true
preload = true
seats = 64
waiting_limit = 1024
"""


@dataclass(frozen=True)
class BenchBox:
    """Running processes. `node` is None for a router alone."""

    port: int
    router: psutil.Process
    node: psutil.Process | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def box(folder: Path, *, with_node: bool = True, catalog: str = CATALOG) -> AsyncIterator[BenchBox]:
    """Ready to serve; ended and waited for at the end. The database lies in `folder`, which keeps it."""
    _write_catalog(folder, catalog)
    port, grpc_port, node_port = (free_port() for _ in range(3))
    target = f"127.0.0.1:{node_port}"
    node = ["-m", "node.cli", "--listen", target, "--device", "cpu", "--models", str(folder / "models.toml")]
    router = ["-m", "router.cli", "route", "--port", str(port), "--grpc-port", str(grpc_port), "--data", str(folder)]
    commands = {"router": [*router, "--node", target]}
    if with_node:
        commands["node"] = [*node, "--data", str(folder / "node")]
    processes = {name: _start(command, folder / f"{name}.log") for name, command in commands.items()}
    try:
        await wait_until_ready(f"http://127.0.0.1:{port}", "/readyz" if with_node else "/healthz", folder)
        running = {name: psutil.Process(process.pid) for name, process in processes.items()}
        yield BenchBox(port, running["router"], running.get("node"))
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            await asyncio.to_thread(process.wait, 30)


def _write_catalog(folder: Path, catalog: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.toml").write_text(catalog)


def _start(arguments: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


async def wait_until_ready(url: str, path: str, folder: Path) -> None:
    try:
        async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=url) as client:
            while not await _answers(client, path):  # noqa: ASYNC110 - another process has nothing else to wait on
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise SystemExit(f"the router is not ready after {READY_S:g} s: see the logs in {folder}") from None


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
