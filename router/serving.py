"""A task served at the best place, or at the next one when a place refuses it before the start.

Not about which places there are (routing.py) nor what becomes of the events (attempt.py, api/direct.py).
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from protos.errors import FabricError
from protos.types import Started, Task, TaskEvent
from providers.registry import ProviderRegistry
from router.routing import Candidate


@dataclass(frozen=True, slots=True)
class Served:
    """An event and who sent it."""

    by: Candidate
    event: TaskEvent


async def serve(
    providers: ProviderRegistry,
    candidates: Sequence[Candidate],
    task: Task,
    take_turn: Callable[[Candidate], None] = lambda _: None,
) -> AsyncGenerator[Served, None]:
    """The events of the run; `take_turn` hears of each candidate before it is asked. Raises the last one's error: after
    the start output may have been seen, so no other gets the task then."""
    *others, last = candidates
    for candidate in others:
        has_started = False
        take_turn(candidate)
        try:
            async with aclosing(_serve_at(providers, candidate, task)) as events:
                async for served in events:
                    has_started = has_started or isinstance(served.event, Started)
                    yield served
        except FabricError as error:
            if has_started or not error.retryable:
                raise
        else:
            return
    take_turn(last)
    async with aclosing(_serve_at(providers, last, task)) as events:
        async for served in events:
            yield served


async def _serve_at(providers: ProviderRegistry, candidate: Candidate, task: Task) -> AsyncGenerator[Served, None]:
    run = providers.get(candidate.provider_id).run(replace(task, model=candidate.model))
    async with aclosing(cast(AsyncGenerator[TaskEvent, None], run)) as events:
        async for event in events:
            yield Served(candidate, event)
