"""A real `fabric-node up`: a supervisor, a router and a node as processes of their own, on free ports."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[2]
READY_S = 240.0  # on two cores that others are busy on, with the real models
_FIRST_PORT, _PORTS = 12_000, 20_000  # below what systems give away themselves: Linux from 32768, others from 49152
_places = itertools.count(os.getpid() * 199)


@dataclass(frozen=True)
class Box:
    """A running `fabric-node up`."""

    process: subprocess.Popen[bytes]
    url: str
    grpc: str  # host:port of the router's gRPC door
    data: Path
    log: Path

    def child(self, command: str) -> psutil.Process | None:
        """The running child with that word in its command: `node.cli` or `route`."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it died just now
                if command in child.cmdline():
                    return child
        return None

    async def wait_until_ready(self) -> None:
        """Returns when /readyz answers 200."""
        async with asyncio.timeout(READY_S), httpx.AsyncClient(base_url=self.url) as client:
            while not await _answers(client):
                assert self.process.poll() is None, f"fabric-node up ended:\n{self.log.read_text()}"
                await asyncio.sleep(0.05)  # a process of its own: there is nothing to wait on but its port

    async def stop(self) -> int:
        """Sends Ctrl-C to the supervisor and waits for its end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return await asyncio.to_thread(self.process.wait, 120)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def free_port() -> int:
    """One that nobody has and that nobody is given: the system gives connections, and servers on port 0, higher ones.

    It is used seconds later, and again after a kill, while other processes open thousands of connections. Those that ask
    here begin at places of their own.
    """
    for _ in range(_PORTS):
        port = _FIRST_PORT + next(_places) % _PORTS
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


@asynccontextmanager
async def running(data: Path, models: Path, **environment: str) -> AsyncIterator[Box]:
    """A ready box on `models`; ends it and all its children."""
    data.mkdir(parents=True, exist_ok=True)
    port, grpc_port, node_port, log = free_port(), free_port(), free_port(), data / "up.log"
    command = [sys.executable, "-m", "router.cli", "up", "--devices", "cpu", "--models", str(models)]
    command += ["--port", str(port), "--node-port", str(node_port), "--data", str(data)]
    command += ["--grpc-port", str(grpc_port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment}, start_new_session=True
        )
    box = Box(process, f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", data, log)
    try:
        await box.wait_until_ready()
        yield box
    finally:
        family = (
            [psutil.Process(process.pid), *psutil.Process(process.pid).children()] if process.poll() is None else []
        )
        try:
            await box.stop()
        finally:
            for survivor in psutil.wait_procs(family, timeout=30)[1]:
                survivor.kill()
