"""At most so many calls at once; the others wait, and only so many may."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, cast

from protos.errors import Overloaded
from protos.types import Queued, Task, TaskEvent
from providers.base import Menu, Offer, Snapshot
from providers.wrappers.stack import Run

WAITING: Final = 256  # calls; the router holds back what waits longer, so this only evens out bursts
_MENUS: Final = 16  # kept; each is as long as the vendor's list


class Limited:
    """A Layer. A wait for a seat is told as Queued, once, with how many are ahead."""

    def __init__(self, limit: int, waiting_limit: int = WAITING) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._limit, self._waiting_limit = limit, waiting_limit
        self._seats = asyncio.Semaphore(limit)
        self._waiting = self._running = 0
        self._shown: tuple[Snapshot, Snapshot] | None = None  # of what and what, until the load changes
        self._offers: Sequence[Offer] = ()  # the last ones
        self._menus: dict[tuple[int, int], Menu] = {}  # of those, by load: few loads come again and again

    async def run(self, task: Task, inner: Run) -> AsyncIterator[TaskEvent]:
        if self._waiting >= self._waiting_limit:
            raise Overloaded(
                f"{self._waiting} calls wait for one of {self._limit} at the vendor, as many as may: retry later",
                retry_after_s=1.0,
            )
        yield Queued(self._waiting)
        await self._sit()
        try:
            async with aclosing(cast(AsyncGenerator[TaskEvent, None], inner(task))) as events:
                async for event in events:
                    if not isinstance(event, Queued):
                        yield event
        finally:
            self._change(running=-1)
            self._seats.release()

    async def _sit(self) -> None:
        self._change(waiting=1)
        try:
            await self._seats.acquire()
        finally:
            self._change(waiting=-1)
        self._change(running=1)

    def _change(self, *, waiting: int = 0, running: int = 0) -> None:
        self._waiting, self._running, self._shown = self._waiting + waiting, self._running + running, None

    def seen(self, snapshot: Snapshot) -> Snapshot:
        last = self._shown
        if last is not None and last[0] is snapshot:  # as most often
            return last[1]
        load = (self._waiting, self._running)
        if self._offers is not snapshot.offers or len(self._menus) >= _MENUS:
            self._offers, self._menus = snapshot.offers, {}
        if load not in self._menus:
            self._menus[load] = Menu(
                replace(offer, max_batch=min(offer.max_batch, self._limit), waiting=load[0], running=load[1])
                for offer in snapshot.offers
            )
        shown = replace(snapshot, offers=self._menus[load])
        self._shown = (snapshot, shown)
        return shown
