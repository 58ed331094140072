"""Layers around a provider: each adds one concern to its runs, and may add to what is seen of it.

The first layer is the outermost: Wrapped(vendor, [Retrying(), Limited(16)]) retries around the limit.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Protocol, TypeAlias, cast

from protos.types import Estimate, ProviderId, Started, Task, TaskEvent, TaskId
from providers.base import Provider, Snapshot
from providers.calls import RunningCalls

Run: TypeAlias = Callable[[Task], AsyncIterator[TaskEvent]]
"""A provider's `run`, or that of the layers inside."""


class Layer(Protocol):
    """One concern. Its state belongs to one provider."""

    def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        """Runs the task by `inner`, with the contract of Provider.run."""
        ...

    @property
    def seen(self) -> Callable[[Snapshot], Snapshot] | None:
        """What is seen of the provider through this layer. Cheap: each route asks every place. None: nothing changes."""
        ...


class Wrapped:
    """A provider within its layers."""

    def __init__(self, inner: Provider, layers: Sequence[Layer]) -> None:
        self._inner = inner
        self._seen = [layer.seen for layer in reversed(layers) if layer.seen is not None]
        self._calls = RunningCalls()
        self._run: Run = inner.run
        for layer in reversed(layers):
            self._run = partial(_through, layer, self._run)

    @property
    def id(self) -> ProviderId:
        return self._inner.id

    def snapshot(self) -> Snapshot:
        snapshot = self._inner.snapshot()
        for seen in self._seen:
            snapshot = seen(snapshot)
        return snapshot

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        with self._calls.running(task.id) as running:
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], self._run(task))) as events:
                while (event := await running.next(events)) is not None:
                    running.is_sent = running.is_sent or isinstance(event, Started)
                    yield event

    async def cancel(self, task_id: TaskId) -> None:
        """Also what waits in a layer, for a seat or for its next try."""
        self._calls.cancel(task_id)
        await self._inner.cancel(task_id)

    async def estimate(self, task: Task) -> Estimate:
        return await self._inner.estimate(task)

    async def start(self) -> None:
        await self._inner.start()

    async def close(self) -> None:
        await self._inner.close()


def _through(layer: Layer, inner: Run, task: Task) -> AsyncIterator[TaskEvent]:
    return layer.run(task, inner)
