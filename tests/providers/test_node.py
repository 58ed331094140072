"""The client of a node when the node stops, dies, comes back, or its caller goes away."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from edge import BOUND_S, catalog, fake_node

from box import ROOT, free_port
from node.daemon import Daemon
from node.rpc import NodeServicer
from node.server import Server
from node.uploads import Uploads
from protos.errors import NodeUnavailable, Overloaded
from protos.types import (
    Finished,
    ModelId,
    ModelState,
    ProviderId,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextRequest,
)
from providers.base import Snapshot
from providers.node import NodeProvider

TEXT = TextRequest(prompt="one two three")
SILENCE_S = 2.0  # instead of 3 s: the tests that wait for it take as long


class Watched:
    """A provider, and waiting for what it knows to change."""

    def __init__(self, target: str) -> None:
        self._changed = asyncio.Event()
        self.provider = NodeProvider(ProviderId("node"), target, self._changed.set, silence_s=SILENCE_S)

    async def until(self, is_so: Callable[[Snapshot], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not is_so(self.provider.snapshot()):
                await self._changed.wait()
                self._changed.clear()

    async def until_health(self, status: str) -> None:
        await self.until(lambda snapshot: snapshot.health.status == status)


@asynccontextmanager
async def watching(target: str) -> AsyncIterator[Watched]:
    watched = Watched(target)
    await watched.provider.start()
    try:
        yield watched
    finally:
        await watched.provider.close()


@asynccontextmanager
async def node_process(folder: Path, port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "node.cli", "--listen", f"127.0.0.1:{port}", "--device", "cpu"]
    process = subprocess.Popen([*command, "--models", str(catalog(folder)), "--data", str(folder)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


def a_task(id_: str = "task") -> Task:
    return Task(id=TaskId(id_), request=TEXT)


async def finished(provider: NodeProvider, id_: str) -> Finished:
    *_, last = [event async for event in provider.run(a_task(id_))]
    assert isinstance(last, Finished)
    return last


@asynccontextmanager
async def seated(folder: Path, gate: threading.Event) -> AsyncIterator[tuple[Daemon, AsyncIterator[TaskEvent]]]:
    """A node, and the events of a task that has its seat there and goes on when the gate opens."""
    async with fake_node(folder, gate) as node, watching(node.target) as watched:
        gate.set()
        await watched.until_health("healthy")
        gate.clear()
        events = watched.provider.run(a_task())
        async with asyncio.timeout(BOUND_S):
            assert [type(await anext(events)) for _ in range(2)] == [Queued, Started]
        yield node, events


async def until_idle(node: Daemon) -> None:
    """Returns when the node holds no task."""
    async with asyncio.timeout(BOUND_S):
        async for status in node.service.watch(0.02):
            if not any(model.waiting + model.running for model in status.models):
                return


async def test_a_node_that_cannot_be_reached_is_unavailable_with_the_reason() -> None:
    async with watching(f"127.0.0.1:{free_port()}") as watched:
        snapshot = watched.provider.snapshot()
        assert (snapshot.health.status, snapshot.offers, snapshot.node) == ("unavailable", (), None)
        with pytest.raises(NodeUnavailable, match=r"has not answered|cannot be reached"):
            await anext(watched.provider.run(a_task()))


async def test_a_node_that_comes_later_is_found(tmp_path: Path) -> None:
    port = free_port()
    async with watching(f"127.0.0.1:{port}") as watched, node_process(tmp_path, port):
        await watched.until_health("healthy")
        offers = {offer.model for offer in watched.provider.snapshot().offers}
        assert offers == {"fake-text", "fake-embedding", "fake-image", "fake-audio"}


async def test_a_stopped_process_ends_the_running_calls_and_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    async with watching(f"127.0.0.1:{port}") as watched, node_process(tmp_path, port) as process:
        await watched.until_health("healthy")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(NodeUnavailable, match="silent for 2 s"):
            async with asyncio.timeout(BOUND_S):
                [event async for event in watched.provider.run(a_task())]
        assert watched.provider.snapshot().health.status == "unavailable"
        process.send_signal(signal.SIGCONT)
        await watched.until_health("healthy")
        events = [event async for event in watched.provider.run(a_task("again"))]
        assert isinstance(events[-1], Finished)


async def test_a_router_that_was_held_up_itself_loses_nothing_that_runs(tmp_path: Path) -> None:
    gate = threading.Event()
    async with seated(tmp_path, gate) as (node, events):
        async with asyncio.timeout(BOUND_S):
            threading.Event().wait(2 * SILENCE_S)  # of the loop's thread: nothing is heard, because nobody listens
            uptime_s = node.service.status().uptime_s
            async for status in node.service.watch(0.02):  # it listens again
                if status.uptime_s > uptime_s + SILENCE_S / 2:
                    break
            gate.set()
            assert isinstance([event async for event in events][-1], Finished)


async def test_a_killed_node_ends_the_running_calls(tmp_path: Path) -> None:
    port = free_port()
    async with watching(f"127.0.0.1:{port}") as watched, node_process(tmp_path, port) as process:
        await watched.until_health("healthy")
        process.send_signal(signal.SIGSTOP)  # so that the call still runs when the node dies
        call = asyncio.create_task(anext(watched.provider.run(a_task())))  # type: ignore[arg-type]  # a coroutine
        process.kill()
        with pytest.raises(NodeUnavailable):
            async with asyncio.timeout(BOUND_S):
                await call
        await watched.until_health("unavailable")


async def test_closing_the_iterator_cancels_the_task_on_the_node(tmp_path: Path) -> None:
    gate = threading.Event()
    async with seated(tmp_path, gate) as (node, events):
        async with asyncio.timeout(BOUND_S):
            await events.aclose()  # type: ignore[attr-defined]  # a generator
        await until_idle(node)  # the gate is still closed: it cannot have succeeded
        (text,) = [model for model in node.service.status().models if model.model.id == "fake-text"]
        assert (text.cancelled, text.succeeded) == (1, 0)


async def test_a_node_of_an_older_contract_is_called_once_for_each_task(tmp_path: Path) -> None:
    class Older(NodeServicer):
        async def ExecuteMany(self, request_iterator: object, context: Any) -> NoReturn:  # noqa: N802, ARG002
            await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    async with fake_node(tmp_path) as node:
        servicer = Older(lambda _: node.service, Uploads(1 << 20, 60.0), 0.1)
        server = Server(servicer, "127.0.0.1:0", 1 << 20)
        await server.start()
        async with watching(server.target) as watched:
            await watched.until_health("healthy")
            ends = await asyncio.gather(*(finished(watched.provider, f"task-{n}") for n in range(3)))
        await server.stop()
    assert {end.usage.input_tokens for end in ends} == {3}


async def test_calls_on_one_stream_fail_together_and_the_next_has_a_new_one(tmp_path: Path) -> None:
    port = free_port()
    async with watching(f"127.0.0.1:{port}") as watched:
        async with node_process(tmp_path, port) as process:
            await watched.until_health("healthy")
            process.send_signal(signal.SIGSTOP)
            calls = [asyncio.create_task(finished(watched.provider, f"task-{n}")) for n in range(5)]
            await asyncio.sleep(0)
            process.kill()
            async with asyncio.timeout(BOUND_S):
                ends = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(end) for end in ends} == {NodeUnavailable}
            await watched.until_health("unavailable")
        async with node_process(tmp_path, port):
            await watched.until_health("healthy")
            assert (await finished(watched.provider, "again")).usage.input_tokens == 3


async def test_a_full_waiting_room_is_the_node_s_own_error(tmp_path: Path) -> None:
    gate = threading.Event()
    async with fake_node(tmp_path, gate) as node, watching(node.target) as watched:
        gate.set()
        await watched.until_health("healthy")
        gate.clear()
        runs = [asyncio.create_task(finished(watched.provider, f"task-{n}")) for n in range(20)]
        await asyncio.wait(runs, timeout=BOUND_S, return_when=asyncio.FIRST_EXCEPTION)
        gate.set()
        async with asyncio.timeout(BOUND_S):
            ends = await asyncio.gather(*runs, return_exceptions=True)
        refused = [end for end in ends if isinstance(end, Overloaded)]
        assert refused
        assert "limit is 8" in refused[0].message
        assert all(isinstance(end, Overloaded | Finished) for end in ends)


async def test_a_model_is_unloaded_and_loaded_by_name(tmp_path: Path) -> None:
    async with fake_node(tmp_path) as node, watching(node.target) as watched:
        await watched.until_health("healthy")
        assert (await watched.provider.unload(ModelId("fake-image"))).state is ModelState.UNLOADED
        assert (await watched.provider.load(ModelId("fake-image"))).state is ModelState.READY


async def test_a_drained_node_is_unavailable(tmp_path: Path) -> None:
    async with fake_node(tmp_path) as node, watching(node.target) as watched:
        await watched.until_health("healthy")
        await node.service.drain(0.0)
        await watched.until_health("unavailable")
