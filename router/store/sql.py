"""The store on SQL: SQLite, one file and one router. Writes go through the writer's thread, reads through a small pool.

Not about what a write does (operations.py) nor how it is written (transaction.py, writer.py).
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, Select, insert, inspect, select, update
from sqlalchemy.exc import DatabaseError

from protos.errors import Conflict, Internal, InvalidRequest
from protos.types import OrganizationId
from router.jobs import EventKind, Job, JobEvent, JobId, JobState, Json, unknown_job
from router.spending import Spent
from router.store import (  # noqa: F401  # each table stands in create_all
    assets,
    audit,
    budget,
    deliveries,
    keys,
    queries,
    secrets,
    tables,
    usage,
    webhooks,
)
from router.store.base import Claimed, Ending, JobFilter, Lease, QueuePlace, Room
from router.store.dialect import READERS, Engines, sqlite_engines, sqlite_path
from router.store.group import UNFINISHED
from router.store.listing import job_list
from router.store.lock import FileLock
from router.store.operations import Append, Cancel, Create, Finish, Release, Renew, Start
from router.store.rows import encoded_or_none, event_from, job_from, request_columns, usage_column
from router.store.transaction import Change, Claim, Write
from router.store.writer import Writer

_SCHEMA: Final = "schema"  # the counter that holds the number of the schema

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class SqlStore:
    """A Store. `url`: "sqlite:///path/to/file.db", or "sqlite://" for one that keeps nothing after `close`.

    `on_commit` gets the events of each commit, on the event loop, before the callers of its writes go on.
    """

    def __init__(
        self,
        url: str,
        on_commit: Callable[[Sequence[JobEvent]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = sqlite_path(url)
        self._on_commit, self._clock = on_commit, clock
        self._opened = ExitStack()
        self._engines: Engines | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._limited: Set[str] = frozenset()

    async def open(self) -> None:
        with ExitStack() as stack:
            self._engines = engines = await asyncio.to_thread(self._open_file, stack)
            self._readers = stack.enter_context(ThreadPoolExecutor(READERS, thread_name_prefix="store-reader"))
            self._writer = Writer(engines, self._on_commit, self._clock)
            self._writer.start()
            self._opened = stack.pop_all()

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        await asyncio.to_thread(self._opened.close)
        self._writer = self._readers = self._engines = None

    def _open_file(self, stack: ExitStack) -> Engines:
        if self._path is None:
            path, synchronous = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "jobs.db", "OFF"
        else:
            path, synchronous = self._path.absolute(), "FULL"
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as exc:
            raise InvalidRequest(f"{path} cannot be written ({exc.strerror}): name another folder with --data") from exc
        stack.callback(lock.release)
        engines = sqlite_engines(path, synchronous)
        stack.callback(engines.dispose)
        try:
            with engines.writer.begin() as connection:
                _prepare(connection, path, self._clock())
                self._limited = budget.limited(connection)
        except DatabaseError as exc:
            raise Conflict(
                f"{path} is not a SQLite database that can be written ({exc.orig}): move it away, or name another file"
            ) from exc
        return engines

    # ---- writes ----

    async def create(self, job: Job, waiting_limit: int, key_limit: int | None = None) -> tuple[Job, bool]:
        write = Create(job, waiting_limit, key_limit, request_columns(job.request))
        return cast(tuple[Job, bool], await self._write(write))

    async def claim(self, room: Room, lease_s: float) -> Claimed:
        return cast(Claimed, await self._write(Claim(room, lease_s)))

    async def renew(self, leases: Sequence[Lease], lease_s: float) -> Sequence[JobId]:
        return cast(Sequence[JobId], await self._write(Renew(leases, lease_s)))

    def start(
        self, lease: Lease, provider_id: str, node_id: str | None, model: str, decision: Json | None = None
    ) -> "asyncio.Future[Job]":
        return self._write(Start(lease, provider_id, node_id, model, decision or {}))

    async def append(self, lease: Lease, kind: EventKind, payload: Json) -> JobEvent:
        return cast(JobEvent, await self._write(Append(lease, kind, payload)))

    async def release(self, lease: Lease, not_before: float, cause: Json | None, spent: Sequence[Spent] = ()) -> None:
        await self._write(Release(lease, not_before, cause, spent))

    async def finish(self, lease: Lease, ending: Ending, spent: Sequence[Spent] = ()) -> Job | None:
        columns = {
            "output": encoded_or_none(ending.output),
            "error": encoded_or_none(ending.error),
            "usage": usage_column(ending.usage),
        }
        return cast(Job | None, await self._write(Finish(lease, ending, columns, spent)))

    async def cancel(self, job_id: JobId) -> Job:
        await self._write(Cancel(job_id))
        job = await self.get(job_id)
        if job is None:
            raise unknown_job(job_id)
        return job

    def change(
        self, make: Callable[[Connection, float], Result], *, is_synced: bool = True
    ) -> "asyncio.Future[Result]":
        return self._write(Change(make, is_synced))

    # ---- reads ----

    async def look(self, read: Callable[[Connection], Result]) -> Result:
        return await self._in_reader(read)

    def is_unlimited(self, organization_id: OrganizationId) -> bool:
        return organization_id not in self._limited  # certain: nobody else writes the file

    async def get(self, job_id: JobId) -> Job | None:
        rows = await self._read(queries.job(job_id))
        return job_from(rows[0]) if rows else None

    async def list_jobs(self, wanted: JobFilter) -> Sequence[Job]:
        statement, values = job_list(wanted)
        rows = await self._in_reader(lambda connection: connection.execute(statement, values).all())
        return [job_from(row) for row in rows]

    async def place(self, job_id: JobId) -> QueuePlace | None:
        return await self._in_reader(lambda connection: queries.place(connection, job_id))

    async def events_of_job(self, job_id: JobId, after: int, limit: int) -> Sequence[JobEvent]:
        return [event_from(row) for row in await self._read(queries.events_of_job(job_id, after, limit))]

    async def turning_points(self, job_id: JobId) -> Sequence[JobEvent]:
        return [event_from(row) for row in await self._read(queries.turning_points(job_id))]

    async def events_of_organization(
        self, organization_id: OrganizationId, after: int, limit: int
    ) -> Sequence[JobEvent]:
        rows = await self._read(queries.events_of_organization(organization_id, after, limit))
        return [event_from(row) for row in rows]

    async def last_position(self, organization_id: OrganizationId) -> int:
        rows = await self._read(queries.last_position(organization_id))
        return cast(int, rows[0].value) if rows else 0

    async def count_unfinished(self) -> Mapping[JobState, int]:
        counted = {row.name: row.value for row in await self._read(queries.COUNT_UNFINISHED)}
        return {state: counted.get(state.value, 0) for state in UNFINISHED}

    def _write(self, write: Write) -> "asyncio.Future[Any]":  # Any: each write has a result of its own
        if self._writer is None:
            raise Internal("the store is not open: nothing was stored")
        return self._writer.write(write)

    async def _read(self, statement: Select[Any]) -> Sequence[Any]:  # Any: rows of what the statement selects
        return await self._in_reader(lambda connection: connection.execute(statement).all())

    async def _in_reader(self, read: Callable[[Connection], Result]) -> Result:
        if self._readers is None or self._engines is None:
            raise Internal("the store is not open: nothing can be read")
        engine = self._engines.readers

        def run() -> Result:
            with engine.connect() as connection:
                return read(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)


def _prepare(connection: Connection, path: Path, now: float) -> None:
    """Creates the tables in an empty file; checks the schema of another. Then voids the leases of a router that ended, and
    books the paid calls that it had under way: only one owns the file, and that is this one now."""
    if not inspect(connection).has_table(tables.counters.name):
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.counters), [{"name": _SCHEMA, "value": tables.SCHEMA}])
    version = connection.scalar(select(tables.counters.c.value).where(tables.counters.c.name == _SCHEMA))
    if version != tables.SCHEMA:
        raise Conflict(
            f"the jobs in {path} have schema {version}, this release reads {tables.SCHEMA}: use the release that wrote "
            "them, or move the file away to begin with an empty one"
        )
    for table in tables.metadata.sorted_tables:
        for index in table.indexes:  # one that was added since the file was made is no other schema
            index.create(connection, checkfirst=True)
    jobs = tables.jobs
    connection.execute(update(jobs).where(jobs.c.due_at.is_not(None), jobs.c.lease_token.is_not(None)).values(due_at=0))
    if lost := usage.adopt(connection, now):
        log.warning("%d paid calls ended with the last router: each is booked at the most that it can have cost", lost)
