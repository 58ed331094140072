"""Forecasts under random arrivals, in the virtual time of the real service and loop: a new task meets a step that runs."""

import asyncio
import random
from collections.abc import Mapping
from statistics import median

import pytest

from node.engine import ModelSpec
from node.replay.engine import Manner, Needs
from node.replay.node import Site, VirtualNode, playing
from node.replay.world import VirtualLoop
from node.scheduler.costs import Line
from protos.types import EmbeddingRequest, Modality, ModelId, Queued, Task, TaskId

MODEL = ModelId("m")
TEXTS = Manner(
    cost=Line(1.6e-4, 3e-3), most_units=512, peak_bytes=1, load_s=1.0
)  # a step of up to 85 ms, as of embeddings
JOBS, FIRST = 400, 100  # of which the first are for what is learned
LOAD = 0.6
Found = list[tuple[float, float, float]]  # seconds: asked before, told at the start, and taken


async def played() -> Found:
    chance = random.Random(3)
    needs = {TaskId(f"t{number}"): Needs(1, chance.randint(10, 600)) for number in range(JOBS)}
    spec = ModelSpec(id=MODEL, engine="replay", modality=Modality.EMBEDDING, seats=64, preload=True, keep_alive_s=None)
    site = Site(models=[spec], manners={MODEL: TEXTS}, capacity_bytes=1 << 20)
    async with playing(site, lambda task_id: needs[task_id]) as node:
        return await arriving(node, needs, chance)


async def arriving(node: VirtualNode, needs: Mapping[TaskId, Needs], chance: random.Random) -> Found:
    mean_s = sum(each.units for each in needs.values()) / JOBS * (TEXTS.cost.per_unit_s + TEXTS.cost.fixed_s / 512)
    running = []
    for task_id in needs:
        await asyncio.sleep(chance.expovariate(LOAD / mean_s))
        running.append(
            asyncio.create_task(one(node, Task(id=task_id, request=EmbeddingRequest(texts=["a"]), model=MODEL)))
        )
    return (await asyncio.gather(*running))[FIRST:]


async def one(node: VirtualNode, task: Task) -> tuple[float, float, float]:
    asked_s, began_s, told_s = (await node.service.estimate(task)).total_s, node.world.clock(), 0.0
    async for event in node.service.execute(task):
        if isinstance(event, Queued) and event.eta_s is not None:
            told_s = event.eta_s
    return asked_s, told_s, node.world.clock() - began_s


@pytest.fixture(scope="module")
def found() -> Found:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(played())


@pytest.mark.parametrize("side", [0, 1], ids=["asked", "told"])
def test_half_are_within_a_fifth_and_they_promise_neither_too_much_nor_too_little(found: Found, side: int) -> None:
    assert median(abs(job[side] - job[2]) / job[2] for job in found) < 0.2
    assert median(job[side] / job[2] for job in found) == pytest.approx(1.0, abs=0.06)
