"""Models that take turns in too little memory."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from node.engine import DeviceSpec, LoadEngine, ModelSpec
from node.engines.fake import FakeEngine, Faults
from node.memory.devices import probe_of
from node.memory.measured import Memories
from node.occupancy import Residency
from node.registry import Registry
from node.scheduler.loop import DeviceLoop
from protos.errors import DoesNotFit, FabricError, LoadFailed
from protos.types import (
    EmbeddingRequest,
    Finished,
    Modality,
    ModelId,
    ModelState,
    Queued,
    Started,
    Task,
    TaskId,
    TextRequest,
)

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client

MIB = 1 << 20
PAIR = """
[[model]]
id = "a"
engine = "fake"
modality = "text"
[[model]]
id = "b"
engine = "fake"
modality = "text"
"""
ROOM_FOR_ONE = {"memory_bytes": 100 * MIB, "min_residency_s": 0.0}


def large(spec: ModelSpec) -> FakeEngine:
    return FakeEngine(spec, held_bytes=60 * MIB)


def ask(model: str, task_id: str = "t") -> Task:
    return Task(id=TaskId(task_id), request=TextRequest(prompt="one two"), model=ModelId(model))


def states(client: Any) -> dict[str, ModelState]:
    return {model.id: model.state for model in client.daemon.service.models()}


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


async def test_an_idle_model_makes_room_for_the_one_asked_for(start_node: StartNode) -> None:
    async with start_node(PAIR, load=large, **ROOM_FOR_ONE) as client:
        await client.run(ask("a"))
        await client.run(ask("b"))
        assert states(client) == {"a": ModelState.UNLOADED, "b": ModelState.READY}


async def test_a_busy_model_is_waited_for(start_node: StartNode) -> None:
    gate = threading.Event()

    def gated(spec: ModelSpec) -> FakeEngine:
        return FakeEngine(spec, held_bytes=60 * MIB, faults=Faults(gate=gate))

    async with start_node(PAIR, load=gated, **ROOM_FOR_ONE) as client:
        busy = client.events(ask("a", "busy"))
        assert [type(await anext(busy)) for _ in range(2)] == [Queued, Started]
        waits = client.events(ask("b", "waits"))
        assert isinstance(await anext(waits), Queued)
        assert states(client)["a"] == ModelState.READY
        gate.set()
        assert isinstance([event async for event in busy][-1], Finished)
        assert isinstance([event async for event in waits][-1], Finished)


async def test_a_model_that_waits_gets_its_turn_under_traffic_that_never_ends(start_node: StartNode) -> None:
    is_flowing, has_ended = asyncio.Event(), asyncio.Event()

    async def traffic(client: Any, lane: int) -> None:
        number = 0
        while not has_ended.is_set():
            words = TextRequest(prompt="word " * (20 + lane))  # of unlike length: the lanes never pause together
            async for event in client.events(Task(id=TaskId(f"a{lane}-{number}"), request=words, model=ModelId("a"))):
                if isinstance(event, Started):
                    is_flowing.set()
            number += 1

    def slow(spec: ModelSpec) -> FakeEngine:
        return FakeEngine(spec, held_bytes=60 * MIB, step_s=0.002, work=lambda step_s: threading.Event().wait(step_s))

    async with start_node(PAIR, load=slow, **ROOM_FOR_ONE) as client, asyncio.TaskGroup() as group:
        await client.run(ask("a"))
        for lane in range(4):
            group.create_task(traffic(client, lane))
        await is_flowing.wait()
        waited = await client.run(ask("b"))
        has_ended.set()
    assert isinstance(waited[-1], Finished)


async def test_a_wait_for_memory_has_an_end_with_the_numbers(start_node: StartNode) -> None:
    gate = threading.Event()

    def gated(spec: ModelSpec) -> FakeEngine:
        return FakeEngine(spec, held_bytes=60 * MIB, faults=Faults(gate=gate))

    async with start_node(PAIR, load=gated, load_wait_s=0.05, **ROOM_FOR_ONE) as client:
        busy = client.events(ask("a", "busy"))
        assert [type(await anext(busy)) for _ in range(2)] == [Queued, Started]
        error = await client.error_of(ask("b", "waits"))
        gate.set()
        await busy.aclose()
    assert isinstance(error, LoadFailed)
    assert "model 'b' needs 64.0 MiB, 40.0 MiB are free" in error.message


async def test_an_estimate_says_who_would_have_to_go(start_node: StartNode) -> None:
    async with start_node(PAIR, load=large, **ROOM_FOR_ONE) as client:
        await client.run(ask("a"))
        estimate = await client.daemon.service.estimate(ask("b"))
    assert list(estimate.would_evict) == ["a"]


async def test_the_measured_peak_replaces_the_expectation_and_is_remembered(start_node: StartNode) -> None:
    async with start_node(PAIR, load=large) as client:
        await client.run(ask("a"))
        measured = client.daemon.service.models()[0].memory_bytes
        assert measured >= 60 * MIB
    async with start_node(PAIR, load=large) as client:
        assert client.daemon.service.models()[0].memory_bytes == measured


async def test_the_seconds_of_a_load_are_those_of_loading_it_again_without_the_import(tmp_path: Path) -> None:
    now_s = [0.0]

    def imported(name: str) -> LoadEngine:
        assert name == "fake"
        now_s[0] += 8.0

        def load(spec: ModelSpec, _device: DeviceSpec) -> FakeEngine:
            now_s[0] += 0.5
            return FakeEngine(spec)

        return load

    device = DeviceSpec("cpu")
    with ThreadPoolExecutor(1) as threads:
        registry = Registry(
            [ModelSpec(id=ModelId("a"), engine="fake", modality=Modality.TEXT)],
            device,
            capacity_bytes=100 * MIB,
            probe=probe_of(device),
            memories=Memories(tmp_path / "measured.json"),
            loader=imported,
            threads=threads,
            device_loop=DeviceLoop(lambda _: None, 0.05),
            residency=Residency(load_wait_s=1.0, load_retry_s=1.0, min_residency_s=0.0),
            clock=lambda: now_s[0],
        )
        entry = registry.find(ModelId("a"))
        await registry.loaded(entry)
    assert entry.expiry is not None
    entry.expiry.cancel()
    assert entry.measured is not None
    assert entry.measured.load_s == 0.5


async def test_a_model_larger_than_the_node_is_refused_at_the_start(start_node: StartNode) -> None:
    with pytest.raises(DoesNotFit, match=r"model 'a' needs .* MiB .* the node may use 1000 bytes: .*models.toml"):
        async with start_node(PAIR, memory_bytes=1000):
            pass


async def test_who_waits_for_a_load_shares_it(start_node: StartNode) -> None:
    loads: list[ModelId] = []

    def counted(spec: ModelSpec) -> FakeEngine:
        loads.append(spec.id)
        return FakeEngine(spec)

    async with start_node(PAIR, load=counted) as client, asyncio.TaskGroup() as group:
        for i in range(5):
            group.create_task(client.run(ask("a", f"t{i}")))
    assert loads == ["a"]


async def test_an_unused_model_is_unloaded_and_comes_back(start_node: StartNode) -> None:
    models = PAIR.replace('id = "a"', 'id = "a"\nkeep_alive = 0')
    async with start_node(models, load=large) as client:
        for _ in range(3):
            assert isinstance((await client.run(ask("a")))[-1], Finished)


async def test_a_broken_warm_up_fails_the_load_and_closes_the_engine(start_node: StartNode) -> None:
    made: list[FakeEngine] = []

    class Broken(FakeEngine):
        def warm_up(self) -> None:
            raise RuntimeError("no kernel for this device")

    def broken(spec: ModelSpec) -> FakeEngine:
        made.append(Broken(spec))
        return made[-1]

    async with start_node(PAIR, load=broken) as client:
        error: FabricError = await client.error_of(ask("a"))
        assert client.daemon.service.status().device.reserved_bytes == 0
    assert "no kernel for this device" in error.message
    assert made[0].is_closed


async def test_embedding_tasks_do_not_reach_a_text_model(start_node: StartNode) -> None:
    async with start_node(PAIR) as client:
        task = Task(id=TaskId("t"), request=EmbeddingRequest(texts=["a"]), model=ModelId("a"))
        assert "is for text, not embedding" in (await client.error_of(task)).message


async def test_a_node_ends_without_waiting_for_a_load_that_hangs(start_node: StartNode) -> None:
    gate, loading = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hanging(spec: ModelSpec) -> FakeEngine:
        loop.call_soon_threadsafe(loading.set)
        gate.wait()
        return FakeEngine(spec)

    try:
        async with start_node(PAIR, load=hanging) as client:
            waits = asyncio.create_task(client.error_of(ask("a")))
            await loading.wait()
            await client.daemon.service.drain(0)
            assert "shutting down" in (await waits).message
    finally:
        gate.set()
