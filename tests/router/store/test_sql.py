"""What SQLite adds to the contract: one owner of a file, the schema, what a restart finds, and a closed store."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import ANY

import pytest
from scripted import LANE, ORGANIZATION, ManualClock, a_job, claimed, next_due_of
from sqlalchemy import Connection

from protos.errors import Conflict, Internal, InvalidRequest, Overloaded
from router.jobs import EventKind, JobEvent, JobState
from router.store.base import JobFilter
from router.store.dialect import sqlite_path
from router.store.sql import SqlStore


def ignore(_events: Sequence[JobEvent]) -> None: ...


def at(folder: Path, clock: ManualClock | None = None) -> SqlStore:
    return SqlStore(f"sqlite:///{folder}/deep/jobs.db", ignore, clock or ManualClock())


async def test_a_second_store_on_the_file_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    first, second = at(tmp_path), at(tmp_path)
    await first.open()
    with pytest.raises(Conflict, match=r"belong to a router that runs \(process \d+\): stop it"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_another_process_that_holds_the_file_is_named(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys\n"
        "f = open(sys.argv[1], 'w'); f.write(str(os.getpid())); f.flush()\n"
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()\n"
    )
    (tmp_path / "deep").mkdir()
    holder = [sys.executable, "-c", code, str(tmp_path / "deep" / "jobs.db.lock")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {process.pid}"):
            await at(tmp_path).open()
        process.communicate()


@pytest.mark.rounds(1)
async def test_a_restart_finds_the_jobs_and_adopts_what_ran_at_once(tmp_path: Path) -> None:
    clock = ManualClock()
    store = at(tmp_path, clock)
    await store.open()
    for _ in range(3):
        await store.create(a_job(), 10)
    started, waiting = await claimed(store, {LANE: 2}, 1000.0)
    await store.start(started, "p", "n", "m")
    await store.close()

    store = at(tmp_path, clock)
    await store.open()
    leases = await claimed(store, {LANE: 2}, 1000.0)
    assert [(lease.job.id, lease.job.state) for lease in leases] == [
        (started.job.id, JobState.STARTED),
        (waiting.job.id, JobState.PENDING),
    ]
    kinds = [event.kind for event in await store.events_of_job(started.job.id, 0, 10)]
    assert kinds == [EventKind.CREATED, EventKind.STARTED, EventKind.RETRYING]
    with pytest.raises(Overloaded, match="2 jobs are waiting"):
        await store.create(a_job(), 2)
    await store.close()


@pytest.mark.rounds(1)
async def test_a_retry_that_waits_still_waits_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    store = at(tmp_path, clock)
    await store.open()
    await store.create(a_job(), 10)
    (lease,) = await claimed(store, {LANE: 1}, 10.0)
    await store.release(lease, clock.now + 30, None)
    await store.close()
    store = at(tmp_path, clock)
    await store.open()
    assert await claimed(store, {LANE: 1}, 10.0) == []
    assert await next_due_of(store) == clock.now + 30
    await store.close()


async def test_another_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = at(tmp_path)
    await store.open()
    await store.close()
    path = tmp_path / "deep" / "jobs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE counters SET value = 99 WHERE name = 'schema'")
    connection.close()
    with pytest.raises(Conflict, match="schema 99, this release reads 2"):
        await at(tmp_path).open()
    with pytest.raises(Conflict, match="schema 99"):  # and the lock was given back
        await at(tmp_path).open()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "jobs.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(Conflict, match="is not a SQLite database"):
        await at(tmp_path).open()


@pytest.mark.parametrize("url", ["postgresql://localhost/jobs", "jobs.db", ""])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="use sqlite:///"):
        sqlite_path(url)


async def test_a_closed_store_stores_nothing(tmp_path: Path) -> None:
    store = at(tmp_path)
    with pytest.raises(Internal, match="not open"):
        await store.create(a_job(), 10)
    await store.open()
    await store.close()
    with pytest.raises(Internal, match="not open"):
        await store.get(a_job().id)


async def test_close_writes_what_is_queued(tmp_path: Path) -> None:
    store = at(tmp_path)
    await store.open()
    creates = [asyncio.ensure_future(store.create(a_job(), 1000)) for _ in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*creates)
    store = at(tmp_path)
    await store.open()
    assert len(await store.list_jobs(JobFilter(organization_id=ORGANIZATION, limit=100))) == 50
    await store.close()


async def test_events_are_told_before_the_callers_go_on_and_once_for_a_group(tmp_path: Path) -> None:
    groups: list[int] = []
    store = SqlStore(f"sqlite:///{tmp_path}/jobs.db", lambda events: groups.append(len(events)))
    await store.open()

    async def create() -> int:
        await store.create(a_job(), 1000)
        return sum(groups)

    told = await asyncio.gather(*(create() for _ in range(64)))
    assert all(count >= 1 for count in told)
    assert sum(groups) == 64
    assert len(groups) < 32
    await store.close()


async def test_a_folder_that_cannot_be_written_is_refused_with_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(
        InvalidRequest, match=r"deep/jobs\.db cannot be written \(.+\): name another folder with --data"
    ):
        await at(tmp_path).open()


async def test_a_change_that_need_not_be_synced_is_not_unless_one_beside_it_is(tmp_path: Path) -> None:
    def level(connection: Connection, _now: float) -> int:
        return int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    full, normal = 2, 1
    store = at(tmp_path)
    await store.open()
    try:
        assert await store.change(level) == full
        assert await store.change(level, is_synced=False) == normal
        assert await asyncio.gather(store.change(level, is_synced=False), store.change(level)) == [full, full]
        assert await asyncio.gather(store.change(level, is_synced=False), store.create(a_job(), 10)) == [full, ANY]
    finally:
        await store.close()


async def test_a_change_that_is_not_synced_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from router.store.sql import SqlStore\n"
        "async def main():\n"
        "    store = SqlStore(sys.argv[1], lambda _: None)\n"
        "    await store.open()\n"
        "    await store.change(lambda c, _: c.exec_driver_sql('CREATE TABLE kept AS SELECT 7 AS n'), is_synced=False)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "jobs.db"
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, f"sqlite:///{path}"], check=False)
    assert killed.returncode == -9
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]
