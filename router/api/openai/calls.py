"""One call of the dialect on its way: the task that is made of it, its result, its events.

Not about the shapes of a resource (chat.py and its kind).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from ulid import ULID

from protos.errors import Internal
from protos.types import Finished, ModelId, OrganizationId, Started, Task, TaskEvent, TaskId, TaskRequest, Usage
from router.api.context import Parts, WithOrganization, WithParts, WithPrincipal, while_connected


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result and the model that made it."""

    model: str
    finished: Finished


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and the router that serves."""

    http: Request
    parts: Parts
    organization_id: OrganizationId
    key_id: str | None

    def task(self, request: TaskRequest, model: str | None) -> Task:
        return Task(
            id=TaskId(f"task_{ULID()}"),
            request=request,
            model=ModelId(model) if model else None,
            organization_id=self.organization_id,
            timeout_s=self.parts.settings.execute_timeout_s,
        )

    def events(self, task: Task) -> AsyncGenerator[TaskEvent, None]:
        return self.parts.service.execute(task, self.key_id)

    async def outcome(self, request: TaskRequest, model: str | None) -> Outcome:
        """Raises Cancelled, and ends the work, when the caller goes away first."""
        return await while_connected(self.http, self._outcome(self.task(request, model)))

    async def outcomes(self, requests: Sequence[TaskRequest], model: str | None) -> list[Outcome]:
        """Of several tasks at once, in their order; one that fails ends the others."""
        if len(requests) == 1:
            return [await self.outcome(requests[0], model)]
        return await while_connected(self.http, self._outcomes([self.task(request, model) for request in requests]))

    async def started(self, task: Task) -> tuple[str, AsyncGenerator[TaskEvent, None]]:
        """The model that serves it, and what happens from there on: what refuses the task is raised here, while there
        still can be a status."""
        return await while_connected(self.http, self._started(self.events(task)))

    async def _started(self, events: AsyncGenerator[TaskEvent, None]) -> tuple[str, AsyncGenerator[TaskEvent, None]]:
        async for event in events:
            if isinstance(event, Started):
                return event.model, events
        raise Internal("a provider ended without a start: this is a bug")

    async def _outcomes(self, tasks: Sequence[Task]) -> list[Outcome]:
        running = [asyncio.create_task(self._outcome(task)) for task in tasks]
        try:
            return await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _outcome(self, task: Task) -> Outcome:
        model = str(task.model or "")
        async with aclosing(self.events(task)) as events:
            async for event in events:
                if isinstance(event, Started):
                    model = event.model
                if isinstance(event, Finished):
                    return Outcome(model, event)
        raise Internal("a provider ended without a result: this is a bug")


async def _caller(
    request: Request, parts: WithParts, organization_id: WithOrganization, principal: WithPrincipal
) -> Caller:
    return Caller(request, parts, organization_id, principal.key_id)


WithCaller = Annotated[Caller, Depends(_caller)]


def identifier(prefix: str) -> str:
    return f"{prefix}-{ULID()}"


def now() -> int:
    return int(time.time())


def usage_json(usages: Sequence[Usage]) -> dict[str, int]:
    read, said = sum(usage.input_tokens for usage in usages), sum(usage.output_tokens for usage in usages)
    return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}
