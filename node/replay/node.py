"""A node in virtual time: the real service, registry, ledger and device loop over engines that only take time.

Not about which tasks come when (plan.py, run.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from node.engine import DeviceSpec, Engine, LoadEngine, ModelSpec
from node.memory.measured import Measured, key_of
from node.occupancy import Residency
from node.registry import Registry
from node.replay.engine import Manner, Needs, ReplayEngine
from node.replay.world import Threads, VirtualDevice, World
from node.service import NodeService
from protos.types import Device, ModelId, ModelState, NodeId, TaskId

T = TypeVar("T")

_NAME: Final = "replay"
_DEVICE: Final = Device(kind="cpu", name=_NAME, total_bytes=0, used_bytes=0, reserved_bytes=0, foreign_bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The node that is played: its models, its device and its settings."""

    models: Sequence[ModelSpec]
    manners: Mapping[ModelId, Manner]
    capacity_bytes: int
    quantum_s: float = 0.05
    threads: int = 1
    residency: Residency = field(
        default_factory=lambda: Residency(load_wait_s=300.0, load_retry_s=10.0, min_residency_s=10.0)
    )


@dataclass(frozen=True, slots=True)
class VirtualNode:
    """A running one, and how often each model was loaded."""

    service: NodeService
    registry: Registry
    world: World
    loads: Mapping[ModelId, int]


@asynccontextmanager
async def playing(site: Site, needs: Callable[[TaskId], Needs]) -> AsyncIterator[VirtualNode]:
    """needs: of each task that will come. Raises DoesNotFit for a model that never will."""
    world = World()
    device = VirtualDevice(world, site.quantum_s, site.threads)
    spec = DeviceSpec("cpu", threads=site.threads)
    loads: dict[ModelId, int] = dict.fromkeys(site.manners, 0)

    def load(model: ModelSpec, _: DeviceSpec) -> Engine:
        loads[model.id] += 1
        manner = site.manners[model.id]
        world.spend(manner.load_s)
        return ReplayEngine(model, manner, needs, world.spend, site.threads)

    def loader(_: str) -> LoadEngine:
        return load

    registry = Registry(
        site.models,
        spec,
        capacity_bytes=site.capacity_bytes,
        probe=_Probe(site.capacity_bytes),
        memories=_Memories({key_of(m, spec): site.manners[m.id] for m in site.models}),
        loader=loader,
        threads=Threads(world),
        device_loop=device.loop,
        residency=site.residency,
        clock=world.clock,
    )
    service = NodeService(
        NodeId(_NAME),
        registry=registry,
        device_loop=device.loop,
        pool=Threads(world),
        describe=lambda: _DEVICE,
        stall_s=float("inf"),
        version=_NAME,
        clock=world.clock,
    )
    device.on_reports = service.on_reports
    turning = asyncio.create_task(device.run())
    try:
        await registry.preload()
        yield VirtualNode(service, registry, world, loads)
        await service.drain(0.0)
        await registry.close()
    finally:
        turning.cancel()


def is_loaded(node: VirtualNode, model: ModelId) -> bool:
    return node.registry.find(model).state == ModelState.READY


class _Probe:
    """See node.memory.devices.Probe: nobody else is on this device."""

    name = _NAME

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes

    def total_bytes(self) -> int:
        return self._capacity_bytes

    def foreign_bytes(self) -> int:
        return 0

    def peak_during(self, work: Callable[[], T]) -> tuple[T, int]:
        return work(), 0

    def release(self) -> None:
        pass


class _Memories:
    """See node.memory.measured.Memory: all was measured before."""

    def __init__(self, manners: Mapping[str, Manner]) -> None:
        self._known = {key: Measured(manner.peak_bytes, manner.load_s) for key, manner in manners.items()}

    def recall(self, key: str) -> Measured | None:
        return self._known.get(key)

    def remember(self, key: str, measured: Measured) -> None:
        self._known[key] = measured
