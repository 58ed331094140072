"""A task that does its round whenever it is woken or its next moment has come, and survives a round that fails.

Not about what is done in a round.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger(__name__)

_AFTER_FAILURE_S: Final = 1.0


class Rounds:
    """`make_round` returns the seconds until the next one is due, if nobody wakes it before; None: it waits."""

    def __init__(self, name: str, make_round: Callable[[], Awaitable[float | None]]) -> None:
        self._name, self._make_round = name, make_round
        self._doorbell = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=self._name)

    def wake(self) -> None:
        self._doorbell.set()

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._running = None

    async def _run(self) -> None:
        while True:
            self._doorbell.clear()
            try:
                wait_s = await self._make_round()
            except Exception:  # the top of a runner: what failed is tried again, and the log has it
                log.exception("%s failed a round: it tries again", self._name)
                wait_s = _AFTER_FAILURE_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._doorbell.wait()
            except TimeoutError:
                pass
