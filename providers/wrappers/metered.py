"""What was seen of a vendor's calls: error rate, latency, last success. Its health is made of that, not of a ping.

Not about what calls cost: the router books that by attempt (router/accounts.py).
"""

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, cast

from protos.errors import Code, FabricError
from protos.types import Finished, Queued, Started, Task, TaskEvent
from providers.base import Health, Snapshot
from providers.wrappers.stack import Run

_WINDOW_S: Final = 120.0  # what is older says little of now
_CALLS: Final = 200  # kept at most
_FRESH_S: Final = 1.0  # for which nothing is counted anew unless a call ends: each route looks at every place
_ENOUGH: Final = 4  # calls before an error rate says anything
_SICK: Final = 0.5  # of the calls failed: degraded
_REQUESTS_FAULT: Final = frozenset(  # say nothing of the vendor
    {Code.INPUT_VALIDATION_FAILED, Code.MODEL_NOT_FOUND, Code.PAYLOAD_TOO_LARGE, Code.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One call that ended. `said`: what its failure said; "": it ended well."""

    at: float
    said: str
    first_output_s: float | None = None


def health_of(base: Health, calls: Sequence[Seen], success_at: float | None, now: float) -> Health:
    """`base` with what was seen of the calls of the last minutes, oldest first. Pure."""
    recent = [call for call in calls if now - call.at <= _WINDOW_S]
    failed = [call for call in recent if call.said]
    latencies = [call.first_output_s for call in recent if call.first_output_s is not None]
    rate = len(failed) / len(recent) if recent else 0.0
    health = replace(
        base,
        error_rate=rate,
        latency_s=median(latencies) if latencies else None,
        success_s=None if success_at is None else now - success_at,
    )
    if base.status == "healthy" and len(recent) >= _ENOUGH and rate >= _SICK:
        reason = f"{len(failed)} of the last {len(recent)} calls failed, the last: {failed[-1].said}"
        return replace(health, status="degraded", reason=reason)
    return health


class Metered:
    """A Layer."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[Seen] = deque(maxlen=_CALLS)
        self._success_at: float | None = None
        self._shown: tuple[Snapshot, int, float, Snapshot] | None = (
            None  # of what, after how many calls, when, and what
        )
        self._ended = 0

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        began_at, first_at = self._clock(), None
        try:
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                async for event in events:
                    if first_at is None and not isinstance(event, Queued | Started):
                        first_at = self._clock()
                    if isinstance(event, Finished):
                        self._success_at = self._clock()
                        self.add(Seen(self._success_at, "", (first_at or began_at) - began_at))
                    yield event
        except FabricError as error:
            if error.code not in _REQUESTS_FAULT:
                self.add(Seen(self._clock(), error.message))
            raise

    def add(self, seen: Seen) -> None:
        self._calls.append(seen)
        self._ended += 1

    def seen(self, snapshot: Snapshot) -> Snapshot:
        if not self._calls:
            return snapshot
        now, last = self._clock(), self._shown
        if last is not None and last[0] is snapshot and last[1] == self._ended and now - last[2] < _FRESH_S:
            return last[3]
        shown = replace(snapshot, health=health_of(snapshot.health, self._calls, self._success_at, now))
        self._shown = (snapshot, self._ended, now, shown)
        return shown
