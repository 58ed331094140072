"""A circuit breaker: a vendor that keeps failing is left alone for a while, then tried with one call.

It opens after 5 failures in a row, for 10 s; then one call may try. When that one fails it opens for twice as long, up to
two minutes; when it succeeds the breaker is closed. An answer that refuses the request or our account is no failure: the
vendor is there.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Literal, assert_never, cast

from protos.errors import Code, FabricError, NodeUnavailable
from protos.types import Finished, Task, TaskEvent
from providers.base import Health, Snapshot
from providers.wrappers.stack import Run

_FAILURES: Final = frozenset({Code.NODE_UNAVAILABLE, Code.INTERNAL})
_UNDECIDED: Final = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.OVERLOADED})  # say nothing of its health


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    failures: int = 5  # in a row
    open_s: float = 10.0
    open_max_s: float = 120.0


class Outcome(Enum):
    SUCCEEDED = auto()
    FAILED = auto()
    UNDECIDED = auto()


@dataclass(frozen=True, slots=True)
class Breaker:
    """Its state. Times are of one monotonic clock."""

    failures: int = 0  # in a row, while closed
    open_until: float | None = None  # None: closed
    open_s: float = 0.0  # of the last opening
    is_trying: bool = False  # the one call after open_until is under way


def wait_s(breaker: Breaker, now: float) -> float | None:
    """How long a call has to wait; None: it may be made, as the one that tries where the breaker is open."""
    if breaker.open_until is None:
        return None
    if now < breaker.open_until:
        return breaker.open_until - now
    return breaker.open_s if breaker.is_trying else None


def admitted(breaker: Breaker) -> Breaker:
    return breaker if breaker.open_until is None else replace(breaker, is_trying=True)


def settled(breaker: Breaker, outcome: Outcome, policy: BreakerPolicy, now: float, *, is_trial: bool) -> Breaker:
    """After a call. is_trial: it was the one that tried; others that end meanwhile began before it opened."""
    match outcome:
        case Outcome.SUCCEEDED:
            return Breaker() if is_trial or breaker.open_until is None else breaker
        case Outcome.UNDECIDED:
            return replace(breaker, is_trying=False) if is_trial else breaker
        case Outcome.FAILED if is_trial:
            open_s = min(breaker.open_s * 2, policy.open_max_s)
            return Breaker(open_until=now + open_s, open_s=open_s)
        case Outcome.FAILED if breaker.open_until is not None:
            return breaker
        case Outcome.FAILED if breaker.failures + 1 < policy.failures:
            return Breaker(failures=breaker.failures + 1)
        case Outcome.FAILED:
            return Breaker(open_until=now + policy.open_s, open_s=policy.open_s)
        case _:
            assert_never(outcome)


class Breaking:
    """A Layer. `on_change` is called when it opens or closes."""

    def __init__(
        self,
        on_change: Callable[[], None] = lambda: None,
        policy: BreakerPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change, self._policy, self._clock = on_change, policy or BreakerPolicy(), clock
        self._breaker = Breaker()
        self._last = ""  # what the last failure said

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        is_trial = self._admit()
        outcome = Outcome.UNDECIDED  # closed by its reader
        try:
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        outcome = Outcome.SUCCEEDED
                    yield event
        except FabricError as error:
            outcome = _outcome(error)
            self._last = error.message if outcome is Outcome.FAILED else self._last
            raise
        finally:
            self._become(settled(self._breaker, outcome, self._policy, self._clock(), is_trial=is_trial))

    def _admit(self) -> bool:
        """Whether the call is the one that tries. Raises NodeUnavailable where none may be made."""
        wait = wait_s(self._breaker, self._clock())
        if wait is not None:
            raise NodeUnavailable(
                f"the vendor has failed again and again and is left alone for {wait:.1f} s more; "
                f"the last time: {self._last}",
                retry_after_s=wait,
            )
        self._breaker = admitted(self._breaker)
        return self._breaker.is_trying

    def _become(self, breaker: Breaker) -> None:
        was_open, self._breaker = self._breaker.open_until is not None, breaker
        if was_open != (breaker.open_until is not None):
            self._on_change()

    def seen(self, snapshot: Snapshot) -> Snapshot:
        if self._breaker.open_until is None:
            return snapshot
        wait, health = wait_s(self._breaker, self._clock()), snapshot.health
        if wait is None:
            return replace(snapshot, health=_worse(health, "degraded", f"is tried again after: {self._last}"))
        health = _worse(health, "unavailable", f"is left alone for {wait:.1f} s more: {self._last}")
        return replace(snapshot, health=replace(health, rests_until=self._breaker.open_until))


def _outcome(error: FabricError) -> Outcome:
    """One that refuses the request, or our account, has answered: the vendor is there."""
    if error.code in _UNDECIDED:
        return Outcome.UNDECIDED
    return Outcome.FAILED if error.code in _FAILURES else Outcome.SUCCEEDED


def _worse(health: Health, status: Literal["degraded", "unavailable"], reason: str) -> Health:
    return health if health.status == "unavailable" else replace(health, status=status, reason=reason)
