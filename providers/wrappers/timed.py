"""How long a vendor may be silent, and how long a task may take: no call waits for ever."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from protos.errors import DeadlineExceeded, FabricError, NodeUnavailable
from protos.types import Modality, Queued, Started, Task, TaskEvent
from providers.base import Snapshot
from providers.wrappers.stack import Run

# Until the first output. Text: models that think for long say nothing meanwhile. The others answer in one piece.
_HEAD_S: Final = MappingProxyType(
    {Modality.TEXT: 120.0, Modality.IMAGE: 300.0, Modality.AUDIO: 600.0, Modality.EMBEDDING: 60.0}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    head_s: Mapping[Modality, float] = field(default_factory=lambda: _HEAD_S)
    idle_s: float = 60.0  # between two outputs


class Timed:
    """A Layer. Time in which the reader of the events does not ask for the next one is not the vendor's."""

    def __init__(self, limits: TimeLimits | None = None) -> None:
        self._limits = limits or TimeLimits()

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        now = asyncio.get_running_loop().time
        ends_at = None if task.timeout_s is None else now() + task.timeout_s
        silence_s = self._limits.head_s[task.modality]
        async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
            while True:
                silent_at = now() + silence_s
                try:
                    async with asyncio.timeout_at(silent_at if ends_at is None else min(silent_at, ends_at)) as timer:
                        event = await anext(events, None)
                except TimeoutError:
                    if not timer.expired():
                        raise
                    raise _overrun(task, silence_s, is_total=ends_at is not None and ends_at <= silent_at) from None
                if event is None:
                    return
                if not isinstance(event, Queued | Started):
                    silence_s = self._limits.idle_s
                yield event

    def seen(self, snapshot: Snapshot) -> Snapshot:
        return snapshot


def _overrun(task: Task, silence_s: float, *, is_total: bool) -> FabricError:
    if is_total:
        return DeadlineExceeded(
            f"task {task.id} took longer than its timeout_s of {task.timeout_s:g}: allow it more", may_have_run=True
        )
    return NodeUnavailable(
        f"the vendor of task {task.id} was silent for {silence_s:g} s: it may have been run and charged",
        may_have_run=True,
    )
