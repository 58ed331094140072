"""The one writer: a thread that commits all writes that wait as one transaction.

Each commit costs a sync of the disk, milliseconds; while one runs, the next group gathers, so throughput grows with
load and nobody waits on a timer. A plain synchronous connection in a thread of its own, not aiosqlite: that is such a
thread too, but with a hop to it and back for every statement, and on its event loop each statement of a group would
queue behind whatever else runs there. Here a group costs one hop in all, however many statements it has.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from protos.errors import FabricError, Internal, Overloaded
from router.jobs import JobEvent
from router.store import transaction
from router.store.dialect import Engines, fold, sync
from router.store.transaction import Change, Write, Written

GROUP_LIMIT: Final = 512  # writes in one transaction, and what came with the last of them
FOLD_GROUPS: Final = 128  # transactions after which the log is folded in, beside those that follow
QUEUE_LIMIT: Final = 20_000  # writes that wait; at 1,000 jobs/s that is several seconds behind

_Waiting = tuple[Write, "asyncio.Future[Any]"]  # Any: each write has a result of its own

logger = logging.getLogger(__name__)


class Writer:
    """Made and closed on one event loop, which also gets the results and the events."""

    def __init__(
        self, engines: Engines, on_commit: Callable[[Sequence[JobEvent]], None], clock: Callable[[], float]
    ) -> None:
        self._engines, self._on_commit, self._clock = engines, on_commit, clock
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Waiting] = []  # by this step of the loop
        self._waiting: queue.SimpleQueue[list[_Waiting]] = queue.SimpleQueue()  # an empty list: the end
        self._unsettled = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def write(self, write: Write) -> "asyncio.Future[Any]":  # Any: each write has a result of its own
        """Done when the write is durable, with its result or its FabricError. Raises Overloaded when too many wait.

        What one step of the loop writes is handed over together: it costs one waking of the thread, and is never
        divided between two groups.
        """
        if self._is_closed:
            raise Internal("the store is closed: this write came after the shutdown, nothing was stored")
        if self._unsettled >= QUEUE_LIMIT:
            raise Overloaded(
                f"{QUEUE_LIMIT} writes wait for the database, that is its limit: retry later", retry_after_s=1.0
            )
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        future: asyncio.Future[Any] = self._loop.create_future()  # Any: as above
        self._gathered.append((write, future))
        self._unsettled += 1
        return future

    def _hand_over(self) -> None:
        if self._gathered:
            self._waiting.put(self._gathered)
            self._gathered = []

    async def close(self) -> None:
        """Writes what waits, then ends the thread."""
        if not self._is_closed:
            self._is_closed = True
            self._hand_over()
            self._waiting.put([])
            await asyncio.to_thread(self._thread.join)

    # ---- on the thread ----

    def _run(self) -> None:
        unfolded, folding = 0, Future[None]()
        folding.set_result(None)
        with self._engines.writer.connect() as connection, ThreadPoolExecutor(1, "store-folder") as folder:
            while group := self._take():
                written = _commit(connection, [write for write, _ in group], self._clock)
                futures = [future for _, future in group]
                self._loop.call_soon_threadsafe(self._settle, futures, written)
                unfolded += 1
                if unfolded >= FOLD_GROUPS and folding.done():
                    unfolded, folding = 0, folder.submit(_fold, self._engines.folder)

    def _take(self) -> list[_Waiting]:
        """All that wait, at least one; empty: the end."""
        group = list(self._waiting.get())
        while group and len(group) < GROUP_LIMIT:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if not more:
                self._waiting.put(more)  # the end comes after this group
                break
            group += more
        return group

    # ---- on the event loop ----

    def _settle(self, futures: Sequence["asyncio.Future[Any]"], written: Written) -> None:  # Any: as in write
        self._unsettled -= len(futures)
        try:
            if written.events:
                self._on_commit(written.events)
        finally:  # whatever its listeners do, what is durable is told
            for future, outcome in zip(futures, written.outcomes, strict=True):
                _resolve(future, outcome)


def _resolve(future: "asyncio.Future[Any]", outcome: object) -> None:  # Any: as in write
    if future.done():  # its caller went away; what it wrote stays written
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _commit(connection: Connection, writes: Sequence[Write], clock: Callable[[], float]) -> Written:
    """One transaction. When the database refuses it, each write gets one of its own, so that only the culprit fails."""
    try:
        sync(connection, is_synced=any(not isinstance(write, Change) or write.is_synced for write in writes))
        with connection.begin():
            return transaction.run(connection, writes, clock)
    except Exception as exc:  # noqa: BLE001  # the top of the writer's loop: its callers are told, the thread lives on
        if len(writes) == 1:
            return Written([_refused(exc)])
    alone = [_commit(connection, [write], clock) for write in writes]
    return Written([each.outcomes[0] for each in alone], [event for each in alone for event in each.events])


def _fold(engine: Engine) -> None:
    """On a thread where nobody waits for it: SQLite would do it within a commit, 17 of 1,000 creates at 30 jobs a second."""
    try:
        with engine.connect() as connection:
            fold(connection)
    except Exception:  # what is durable stays so in the log; the next time may go better, else a commit tries
        logger.exception("the log of the database could not be folded into its file: is the disk full?")


def _refused(exc: Exception) -> FabricError:
    logger.error("the database refused a write", exc_info=exc)
    what = str(exc.__cause__ or exc) if isinstance(exc, SQLAlchemyError) else repr(exc)
    return Internal(f"the database refused the write: {what}; nothing of it was stored")
