"""Texts per second over HTTP: 64 connections, one text a request, beside Infinity's server at several batch sizes.

    python scripts/bench/embedding_http.py [--requests 128] [--rounds 2] [--connections 64] [--batches 32,8,1]

Ours is a router and a node as `fabric-node up` starts them, asked by /v1/embeddings. Infinity's default batch size is 32; its
best is the one that is fastest here. All have the same weights, float32, one thread, and rounds in turn.
"""
# minutes: 4
# limits: docs/embedding-over-http.md
# peers: infinity

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from scripts.bench.lib.box import box, free_port, wait_until_ready
from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.sentences import minilm, sentences
from scripts.bench.lib.wire import Wire, encoded

ROOT: Final = Path(__file__).resolve().parents[2]
INFINITY: Final = ROOT / ".venv-peer-infinity" / "bin" / "infinity_emb"
DEFAULT_BATCH: Final = 32
WORK: Final = "embeddings over HTTP, one text a request, float32"
CATALOG: Final = """
[[model]]
id = "minilm"
engine = "embedding"
path = "{path}"
default = true
preload = true
seats = 64
step_tokens = 1024
keep_alive = "forever"
"""


class Server:
    """A running server. Connections to it are opened for each round: it may close one that has been idle for seconds."""

    def __init__(self, port: int, path: str, model: str, connections: int) -> None:
        self._port, self._path, self._model, self._connections = port, path, model, connections

    async def vectors(self, texts: Sequence[str]) -> list[Sequence[float]]:
        """One request a text; each connection sends its next one when it has its answer."""
        wires = [await Wire.open(self._port) for _ in range(self._connections)]
        todo = iter(enumerate(texts))
        found: dict[int, Sequence[float]] = {}

        async def ask(wire: Wire) -> None:
            for index, text in todo:
                status, answer = await wire.call("POST", self._path, encoded({"model": self._model, "input": [text]}))
                assert status == 200, answer
                found[index] = json.loads(answer)["data"][0]["embedding"]

        await asyncio.gather(*(ask(wire) for wire in wires))
        for wire in wires:
            wire.close()
        return [found[index] for index in range(len(texts))]


@asynccontextmanager
async def ours(folder: Path, model: Path, connections: int) -> AsyncIterator[Server]:
    async with box(folder / "ours", catalog=CATALOG.format(path=model)) as running:
        yield Server(running.port, "/v1/embeddings", "minilm", connections)


@asynccontextmanager
async def infinity(folder: Path, model: Path, connections: int, batch: int, command: Path) -> AsyncIterator[Server]:
    port = free_port()
    log = folder / f"infinity-{batch}.log"
    arguments = f"--served-model-name minilm --host 127.0.0.1 --port {port} --batch-size {batch} --no-model-warmup"
    settings = "--engine torch --device cpu --dtype float32"
    with _running([str(command), "v2", "--model-id", str(model), *arguments.split(), *settings.split()], log):
        await wait_until_ready(f"http://127.0.0.1:{port}", "/health", folder)
        yield Server(port, "/embeddings", "minilm", connections)


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


async def measured(
    servers: Mapping[str, Server], texts: Sequence[str], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Texts per second of each server in each round, in turn."""
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            started = clock()
            await server.vectors(texts)
            found[name].append(len(texts) / (clock() - started))
            print(f"{name}: {found[name][-1]:.1f} texts/s", file=sys.stderr)
    return found


async def check(servers: Mapping[str, Server], texts: Sequence[str]) -> float:
    """The largest difference between the vectors of any two; a first call that nobody times."""
    each = [np.array(await server.vectors(texts)) for server in servers.values()]
    difference = float(max(np.abs(each[0] - other).max() for other in each))
    assert difference < 1e-4, f"the vectors differ by {difference}"
    return difference


async def run(options: argparse.Namespace, folder: Path) -> None:
    texts, batches = sentences(options.requests), [int(batch) for batch in options.batches.split(",")]
    model = minilm(folder)
    async with AsyncExitStack() as stack:
        servers = {"ours": await stack.enter_async_context(ours(folder, model, options.connections))}
        for batch in batches:
            peer = infinity(folder, model, options.connections, batch, options.infinity)
            servers[f"batch {batch}"] = await stack.enter_async_context(peer)
        difference = await check(servers, texts[:: max(1, len(texts) // 8)])
        found = await measured(servers, texts, options.rounds, time.perf_counter)
    peers = [name for name in found if name != "ours"]
    best = max(peers, key=lambda name: statistics.median(found[name]))
    publish(
        "embedding_http",
        [
            row(found, f"batch {DEFAULT_BATCH}", "Infinity, default batch size (32)", 5.0),
            row(found, best, f"Infinity, its best batch size ({best.removeprefix('batch ')})", 2.0),
        ],
        requests=options.requests,
        connections=options.connections,
        rates={name: [round(rate, 2) for rate in rates] for name, rates in found.items()},
        largest_difference=difference,
    )


def row(found: Mapping[str, Sequence[float]], theirs: str, peer: str, at_least: float) -> Row:
    return Row(
        work=WORK,
        peer=peer,
        measure="texts/s",
        values=[mine / other for mine, other in zip(found["ours"], found[theirs], strict=True)],
        at_least=at_least,
        ours=statistics.median(found["ours"]),
        theirs=statistics.median(found[theirs]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batches", default="32,8,1", help="of Infinity; 32, its default, must be among them")
    parser.add_argument("--infinity", type=Path, default=INFINITY, help="its command")
    options = parser.parse_args()
    if not options.infinity.exists():
        missing = [("default batch size (32)", 5.0), ("its best batch size", 2.0)]
        rows = [
            Row(work=WORK, peer=f"Infinity, {batch}", measure="texts/s", values=[], at_least=aim)
            for batch, aim in missing
        ]
        publish("embedding_http", rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(options, Path(folder)))


if __name__ == "__main__":
    main()
