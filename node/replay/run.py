"""Plays a plan in virtual time and keeps what each task met.

Not about what is made of it (report.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from node.replay.engine import Needs
from node.replay.node import VirtualNode, playing
from node.replay.plan import Coming, Plan
from node.replay.world import VirtualLoop
from node.trace import SUCCEEDED
from protos.errors import Code, FabricError
from protos.types import (
    AudioRequest,
    Blob,
    EmbeddingRequest,
    ImageRequest,
    Modality,
    ModelId,
    OrganizationId,
    Started,
    Task,
    TaskId,
    TaskRequest,
    TextRequest,
)

_REQUESTS: Mapping[Modality, TaskRequest] = {
    Modality.TEXT: TextRequest(prompt=""),
    Modality.IMAGE: ImageRequest(prompt=""),
    Modality.AUDIO: AudioRequest(audio=Blob(b"")),
    Modality.EMBEDDING: EmbeddingRequest(texts=()),
}


@dataclass(frozen=True, slots=True)
class Met:
    """What became of a task."""

    model: str
    waited_s: float | None  # for its seat; None: it got none
    took_s: float
    ended: str  # succeeded, or the code of its error


@dataclass(frozen=True, slots=True)
class Played:
    """What a plan came to."""

    met: Sequence[Met]  # in the order of the plan
    loads: Mapping[str, int]
    device_s: Mapping[str, float]
    lasted_s: float
    loaded: Sequence[str]  # models that were still there at the end


def played(plan: Plan) -> Played:
    """Raises DoesNotFit when a model can never be loaded."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_play(plan))


async def _play(plan: Plan) -> Played:
    needs = {TaskId(f"r{index}"): coming.needs for index, coming in enumerate(plan.tasks)}

    def needs_of(task_id: TaskId) -> Needs:
        return needs[task_id]

    async with playing(plan.site, needs_of) as node:
        began_s = node.world.clock()
        calls: list[asyncio.Task[Met]] = []
        async with asyncio.TaskGroup() as group:
            for index, coming in enumerate(plan.tasks):
                await asyncio.sleep(began_s + coming.at_s - node.world.clock())
                calls.append(group.create_task(_call(node, TaskId(f"r{index}"), coming)))
        return Played(
            met=[call.result() for call in calls],
            loads={str(model): count for model, count in node.loads.items()},
            device_s={str(m.model.id): m.device_seconds for m in node.service.status().models},
            lasted_s=node.world.clock() - began_s,
            loaded=[str(entry.spec.id) for entry in node.registry.entries if entry.engine is not None],
        )


async def _call(node: VirtualNode, task_id: TaskId, coming: Coming) -> Met:
    line, came_s = coming.line, node.world.clock()
    task = Task(
        id=task_id,
        request=_REQUESTS[line.modality],
        model=ModelId(line.model),
        organization_id=OrganizationId(str(line.organization)),
        priority=line.priority,
        timeout_s=line.timeout_s,
    )
    waited_s: float | None = None
    ended: str = SUCCEEDED
    try:
        async with asyncio.timeout(coming.leaves_s):
            async for event in node.service.execute(task):
                if isinstance(event, Started):
                    waited_s = node.world.clock() - came_s
    except TimeoutError:
        ended = Code.CANCELLED
    except FabricError as error:
        ended = error.code
    return Met(line.model, waited_s, node.world.clock() - came_s, ended)
