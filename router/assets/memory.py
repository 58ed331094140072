"""How many bytes of files may be in memory at once: whoever needs more waits its turn.

Not about which job runs when (router/capacity.py): a place may have room for more long recordings than the router.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class MemoryBudget:
    """First come, first served, so that a large file is not passed by small ones for ever. One event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._used_bytes = limit_bytes, 0
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def take(self, wanted_bytes: int) -> AsyncGenerator[None, None]:
        """Holds so many bytes. What is larger than all there is gets all of it, alone."""
        size_bytes = min(wanted_bytes, self._limit_bytes)
        async with self._turn:
            while self._used_bytes + size_bytes > self._limit_bytes:
                self._freed.clear()
                await self._freed.wait()
            self._used_bytes += size_bytes
        try:
            yield
        finally:
            self._used_bytes -= size_bytes
            self._freed.set()
