"""A call that failed is made again soon, where that can neither repeat output nor be paid twice.

Not about another place or a later attempt: those are the router's (fallback.py, retries.py).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from protos.errors import Code, FabricError
from protos.types import Queued, Started, Task, TaskEvent
from providers.wrappers.stack import Run

_AT_ONCE: Final = frozenset({Code.NODE_UNAVAILABLE, Code.OVERLOADED})  # what may have passed in a second


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    attempts: int = 3  # calls in all
    backoff_s: float = 0.25  # before the second call; doubles with each
    wait_max_s: float = 2.0  # what asks for longer is left to the router, which can go elsewhere meanwhile
    takes_idempotency_key: bool = False  # the vendor promises that a call repeated under its key is paid once


def delay_s(error: FabricError, attempt: int, policy: RetryPolicy, jitter: float) -> float | None:
    """Until the next call after `attempt` ones (1 and up); None: no more. jitter: 0 to 1. Pure.

    The vendor's own Retry-After counts in full, and a little more by chance, so that callers come back apart.
    """
    if attempt >= policy.attempts or error.code not in _AT_ONCE:
        return None
    if error.may_have_run and not policy.takes_idempotency_key:
        return None
    backoff_s = policy.backoff_s * 2.0 ** (attempt - 1) * (0.5 + jitter / 2)
    wait_s = backoff_s if error.retry_after_s is None else error.retry_after_s + backoff_s
    return wait_s if wait_s <= policy.wait_max_s else None


class Retrying:
    """A Layer. Queued and Started are told once; after any other event the failure stands."""

    seen = None

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._policy, self._sleep, self._jitter = policy or RetryPolicy(), sleep, jitter

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        told: set[type] = set()
        attempt = 0
        while True:
            attempt += 1
            try:
                async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                    async for event in events:
                        if type(event) not in told or not isinstance(event, Queued | Started):
                            told.add(type(event))
                            yield event
            except FabricError as error:
                wait_s = delay_s(error, attempt, self._policy, self._jitter())
                if wait_s is None or told - {Queued, Started}:
                    raise
            else:
                return
            await self._sleep(wait_s)
