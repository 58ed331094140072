"""Nodes in virtual time, for tests: who asks for what when, and how long it waited."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from node.engine import ModelSpec
from node.occupancy import Residency
from node.replay.engine import Manner, Needs
from node.replay.node import Site, VirtualNode, playing
from node.replay.world import VirtualLoop
from node.scheduler.costs import Line
from protos.types import EmbeddingRequest, Finished, Modality, ModelId, Started, Task, TaskId

GIB = 1 << 30


def model(
    name: str, *, seats: int = 4, keep_alive_s: float | None = None, pin: bool = False, weight: float = 1.0
) -> ModelSpec:
    return ModelSpec(
        id=ModelId(name),
        engine="replay",
        modality=Modality.EMBEDDING,
        seats=seats,
        waiting_limit=100_000,
        keep_alive_s=keep_alive_s,
        pin=pin,
        weight=weight,
    )


def manner(*, gib: float = 1.0, load_s: float = 2.0, step_s: float = 0.05) -> Manner:
    return Manner(cost=Line(0.0, step_s), most_units=1000, peak_bytes=int(gib * GIB), load_s=load_s)


@dataclass
class Asking:
    """Requests of a played node and what came of them."""

    node: VirtualNode
    steps: dict[TaskId, int]
    waits_s: dict[str, list[float]] = field(default_factory=dict)  # until a seat, by model
    ends_s: list[float] = field(default_factory=list)

    async def ask(self, name: str, steps: int = 10) -> float:
        """Returns at its end; how long it waited for its seat."""
        task_id = TaskId(f"t{len(self.steps)}")
        self.steps[task_id] = steps
        task = Task(id=task_id, request=EmbeddingRequest(texts=["a"]), model=ModelId(name))
        came_s, waited_s = self.node.world.clock(), -1.0
        async for event in self.node.service.execute(task):
            if isinstance(event, Started):
                waited_s = self.node.world.clock() - came_s
                self.waits_s.setdefault(name, []).append(waited_s)
            if isinstance(event, Finished):
                self.ends_s.append(self.node.world.clock() - came_s)
        return waited_s

    async def keep_asking(self, name: str, clients: int, steps: int = 10) -> None:
        """So many at once, each again and again. Until it is cancelled."""

        async def client() -> None:
            while True:
                await self.ask(name, steps)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())


def play(
    models: Sequence[tuple[ModelSpec, Manner]],
    scene: Callable[[Asking], Awaitable[object]],
    *,
    gib: float = 1.0,
    min_residency_s: float = 10.0,
    load_wait_s: float = 100_000.0,
) -> Asking:
    """Plays the scene to its end."""
    steps: dict[TaskId, int] = {}
    site = Site(
        models=[spec for spec, _ in models],
        manners={spec.id: how for spec, how in models},
        capacity_bytes=int(gib * GIB),
        residency=Residency(load_wait_s=load_wait_s, load_retry_s=10.0, min_residency_s=min_residency_s),
    )

    async def whole() -> Asking:
        async with playing(site, lambda task_id: Needs(steps[task_id], steps[task_id])) as node:
            asking = Asking(node, steps)
            await scene(asking)
            return asking

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(whole())
