"""A second, equal call beside one that is slow; the first to end wins. Only of embeddings, and only where calls are free.

An embedding is the same whoever computes it and is not streamed, so nothing can differ; and nobody is paid twice.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final, cast

from protos.errors import FabricError
from protos.types import EmbeddingRequest, Queued, Started, Task, TaskEvent
from providers.wrappers.stack import Run

AFTER_S: Final = 1.0  # a server of one's own embeds a batch in less, unless it is stuck


class Hedged:
    """A Layer. Whatever it is not for passes through."""

    seen = None

    def __init__(self, after_s: float = AFTER_S) -> None:
        self._after_s = after_s

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        if not isinstance(task.request, EmbeddingRequest):
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                async for event in events:
                    yield event
            return
        async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
            async for event in events:
                yield event
                if isinstance(event, Started):
                    break
            for event in await self._race(task, inner, events):
                yield event

    async def _race(self, task: Task, inner: Run, first: AsyncIterator[TaskEvent]) -> list[TaskEvent]:
        """What comes after Started, of the call that ends first; of two failures the last."""
        calls = [asyncio.create_task(_rest(first))]
        try:
            await asyncio.wait(calls, timeout=self._after_s)
            if not calls[0].done():
                calls.append(asyncio.create_task(_rest(inner(task))))
            for ended in asyncio.as_completed(calls):
                try:
                    return await ended
                except FabricError as error:
                    failure = error
            raise failure
        finally:
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)


async def _rest(events: AsyncIterator[TaskEvent]) -> list[TaskEvent]:
    async with aclosing(cast(AsyncGenerator[TaskEvent, None], events)) as open_events:
        return [event async for event in open_events if not isinstance(event, Queued | Started)]
