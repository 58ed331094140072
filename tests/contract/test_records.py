"""What a store's database does for resources that are not jobs: changes in the group commit, looks beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from scripted import a_job
from sqlalchemy import Connection, insert, select

from protos.errors import Conflict
from router.store import tables
from router.store.base import Store
from router.store.sql import SqlStore

_counters = tables.counters


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = SqlStore(f"sqlite:///{tmp_path}/jobs.db" if request.param == "file" else "sqlite://", lambda _: None)
    async with asyncio.timeout(60):
        await store.open()
        yield store
        await store.close()


def add(name: str, value: int) -> Callable[[Connection, float], float]:
    def make(connection: Connection, now: float) -> float:
        connection.execute(insert(_counters).values(name=name, value=value))
        return now

    return make


async def value_of(store: Store, name: str) -> int | None:
    return await store.look(
        lambda connection: connection.scalar(select(_counters.c.value).where(_counters.c.name == name))
    )


async def test_a_change_can_be_read_when_it_returns_and_gives_what_it_made(store: Store) -> None:
    assert await store.change(add("one", 1)) > 0
    assert await value_of(store, "one") == 1


async def test_a_change_that_raises_undoes_itself_and_nothing_else_of_its_group(store: Store) -> None:
    def refuse(connection: Connection, now: float) -> None:
        add("refused", 1)(connection, now)
        raise Conflict("no")

    job = a_job()
    results = await asyncio.gather(
        store.change(add("before", 1)), store.change(refuse), store.create(job, 10), return_exceptions=True
    )
    assert isinstance(results[1], Conflict)
    assert await value_of(store, "refused") is None
    assert await value_of(store, "before") == 1
    assert await store.get(job.id) == job


async def test_a_change_that_the_database_refuses_fails_alone(store: Store) -> None:
    await store.change(add("taken", 1))
    results = await asyncio.gather(store.change(add("taken", 2)), store.change(add("free", 3)), return_exceptions=True)
    assert "the database refused the write" in str(results[0])
    assert await value_of(store, "free") == 3
