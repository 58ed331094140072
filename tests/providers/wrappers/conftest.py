"""A task, and how its events are gathered within a bound."""

import asyncio
from dataclasses import replace

import pytest
from wrapping import Gather

from protos.types import Task, TaskEvent, TaskId, TextRequest
from providers.base import Provider

BOUND_S = 60.0


@pytest.fixture
def task() -> Task:
    return Task(id=TaskId("task-1"), request=TextRequest(prompt="say it"))


@pytest.fixture
def gathered(task: Task) -> Gather:
    """All events of a run of the task, or of another one."""

    async def gather(provider: Provider, **changes: object) -> list[TaskEvent]:
        async with asyncio.timeout(BOUND_S):
            return [event async for event in provider.run(replace(task, **changes))]  # type: ignore[arg-type]

    return gather
