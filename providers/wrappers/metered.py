"""What was seen of a vendor's calls: error rate, latency, last success. Its health is made of that, not of a ping.

Not about what calls cost: the router books that by attempt (router/accounts.py).
"""

import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, cast

from protos.errors import Code, FabricError
from protos.types import Finished, Queued, Started, Task, TaskEvent
from providers.base import Health, Snapshot
from providers.wrappers.stack import Run

_WINDOW_S: Final = 120.0  # what is older says little of now
_CALLS: Final = 200  # kept at most
_FRESH_S: Final = 1.0  # for which nothing is counted anew unless a call fails: each route looks at every place
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


class Window:
    """The calls of the last minutes, counted as they come and go: each that ends changes what every route sees."""

    def __init__(self, calls: Iterable[Seen] = ()) -> None:
        self._calls: deque[Seen] = deque()  # oldest first
        self._latencies: list[float] = []  # of those, sorted
        self._failed, self._said = 0, ""  # how many of them, and what the last one said
        for call in calls:
            self.add(call)

    def add(self, call: Seen) -> None:
        if len(self._calls) == _CALLS:
            self._drop()
        self._calls.append(call)
        if call.said:
            self._failed, self._said = self._failed + 1, call.said
        if call.first_output_s is not None:
            insort(self._latencies, call.first_output_s)

    def _drop(self) -> None:
        call = self._calls.popleft()
        self._failed -= bool(call.said)
        if call.first_output_s is not None:
            del self._latencies[bisect_left(self._latencies, call.first_output_s)]

    def health(self, base: Health, success_at: float | None, now: float) -> Health:
        """`base` with what was seen."""
        while self._calls and now - self._calls[0].at > _WINDOW_S:
            self._drop()
        count = len(self._calls)
        rate = self._failed / count if count else 0.0
        is_sick = base.status == "healthy" and count >= _ENOUGH and rate >= _SICK
        told = f"{self._failed} of the last {count} calls failed, the last: {self._said}"
        return Health(
            status="degraded" if is_sick else base.status,
            reason=told if is_sick else base.reason,
            seen_s=base.seen_s,
            error_rate=rate,
            latency_s=_middle(self._latencies) if self._latencies else None,
            success_s=None if success_at is None else now - success_at,
            rests_until=base.rests_until,
        )


def _middle(ordered: Sequence[float]) -> float:
    """The median of what is sorted already."""
    half, is_odd = divmod(len(ordered), 2)
    return ordered[half] if is_odd else (ordered[half - 1] + ordered[half]) / 2


class Metered:
    """A Layer."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._window = Window()
        self._success_at: float | None = None
        self._shown: tuple[Snapshot, float, Snapshot] | None = None  # of what, until when, and what
        self._has_seen = False

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
        self._window.add(seen)
        self._has_seen = True
        # One more that ended well, at a place that is well, changes nothing that a route looks at: it is seen within a second.
        if seen.said or (self._shown is not None and self._shown[2].health.status != "healthy"):
            self._shown = None

    def seen(self, snapshot: Snapshot) -> Snapshot:
        if not self._has_seen:
            return snapshot
        now, last = self._clock(), self._shown
        if last is not None and last[0] is snapshot and now < last[1]:
            return last[2]
        shown = replace(snapshot, health=self._window.health(snapshot.health, self._success_at, now))
        self._shown = (snapshot, now + _FRESH_S, shown)
        return shown
