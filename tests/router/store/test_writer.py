"""The one writer: what it does between the groups."""

import asyncio
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, insert

from router.jobs import JobEvent
from router.store import tables
from router.store.sql import SqlStore
from router.store.writer import FOLD_GROUPS


def ignore(_events: Sequence[JobEvent]) -> None: ...


def in_the_file(path: Path) -> int:
    """How many of the test's rows the database file has without its log."""
    with closing(sqlite3.connect(shutil.copy(path, path.parent / "copy.db"))) as copy:
        if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'counters'").fetchone():
            return 0  # not even the tables
        [count] = copy.execute("SELECT count(*) FROM counters WHERE name LIKE 'mine-%'").fetchone()
    return int(count)


async def test_the_log_is_folded_into_the_file_beside_the_commits(tmp_path: Path) -> None:
    """Not within one: who wrote that group would wait for more syncs of the disk."""
    store = SqlStore(f"sqlite:///{tmp_path}/jobs.db", ignore)
    await store.open()

    async def write(number: int) -> None:
        def make(connection: Connection, _now: float) -> None:
            connection.execute(insert(tables.counters), [{"name": f"mine-{number}", "value": 1}])

        await store.change(make, is_synced=False)

    for number in range(FOLD_GROUPS):
        await write(number)
    async with asyncio.timeout(60):
        while in_the_file(tmp_path / "jobs.db") < FOLD_GROUPS:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.05)
    await store.close()
