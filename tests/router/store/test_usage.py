"""What attempts used: a row each, written with the end of the job, and sums by day that agree with the rows."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from paid import an_attempt, spent
from scripted import LANE, ORGANIZATION, ManualClock, a_job, claimed
from sqlalchemy import text

from protos.types import ModelId, Usage
from router.jobs import JobState
from router.spending import Outcome, day_of
from router.store import usage
from router.store.base import Ending, Lease
from router.store.sql import SqlStore

DONE = Ending(state=JobState.COMPLETED, output={})
FOREVER = ("2000-01-01", "2999-12-31")


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(clock: ManualClock) -> AsyncIterator[SqlStore]:
    store = SqlStore("sqlite://", lambda _: None, clock)
    async with asyncio.timeout(60):
        await store.open()
        yield store
        await store.close()


async def a_lease(store: SqlStore) -> Lease:
    await store.create(a_job(), 10)
    [lease] = await claimed(store, {LANE: 1}, 60.0)
    await store.start(lease, "vendor", None, "big")
    return lease


async def test_every_attempt_of_a_job_is_kept_with_its_end(store: SqlStore) -> None:
    lease = await a_lease(store)
    attempts = [an_attempt(ORGANIZATION, job_id=lease.job.id) for _ in range(2)]
    failed = spent(attempts[0], outcome=Outcome.FAILED, error_code="node_unavailable", may_have_run=True)
    await store.release(lease, 0.0, {"code": "x", "message": "y"}, [failed])
    [again] = await claimed(store, {LANE: 1}, 60.0)
    used = Usage(input_tokens=5, output_tokens=7, cached_tokens=2, reasoning_tokens=3, device_seconds=0.5)
    await store.finish(again, DONE, [spent(attempts[1], 12, usage=used, eta_s=1.5, took_s=1.25)])
    first, second = await store.look(lambda connection: usage.of_job(connection, lease.job.id))
    assert (first.outcome, first.error_code, first.cost_micro) == (Outcome.FAILED, "node_unavailable", 0)
    assert (second.usage, second.cost_micro, second.eta_s, second.took_s) == (used, 12, 1.5, 1.25)
    assert await store.look(lambda connection: usage.may_have_run(connection, lease.job.id)) == ["vendor"]


async def test_what_is_spent_counts_also_when_the_lease_is_lost(store: SqlStore) -> None:
    lease = await a_lease(store)
    await store.cancel(lease.job.id)
    assert await store.finish(lease, DONE, [spent(an_attempt(ORGANIZATION, job_id=lease.job.id), 9)]) is None
    [record] = await store.look(lambda connection: usage.of_job(connection, lease.job.id))
    assert record.cost_micro == 9


async def test_the_sums_of_the_days_agree_with_the_rows(store: SqlStore, clock: ManualClock) -> None:
    for day in range(3):
        batch = [
            spent(an_attempt(model=ModelId(f"m{n % 2}")), n, usage=Usage(input_tokens=n, audio_seconds=0.5))
            for n in range(10 * (day + 1))
        ]
        await store.change(usage.booked(batch[:5]))
        await store.change(usage.booked(batch[5:]))
        clock.now += 24 * 3600
    days = await store.look(lambda connection: usage.by_day(connection, ORGANIZATION, *FOREVER))
    places = await store.look(lambda connection: usage.by_place(connection, ORGANIZATION, *FOREVER))
    rows = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=1000))
    assert [day["attempts"] for day in days] == [30, 20, 10]
    by_day = Counter[str]()
    for row in rows:
        by_day[day_of(row.at)] += row.cost_micro
    assert {day["day"]: day["cost_micro"] for day in days} == by_day
    assert sum(place["input_tokens"] for place in places) == sum(row.usage.input_tokens for row in rows)
    assert sum(place["audio_seconds"] for place in places) == 30.0


async def test_the_list_is_an_organization_s_own_newest_first_and_pages_by_id(store: SqlStore) -> None:
    await store.change(usage.booked([spent(an_attempt("org-2")), *(spent(an_attempt(), n) for n in range(5))]))
    page = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=3))
    rest = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=page[-1].id, limit=3))
    assert [row.cost_micro for row in (*page, *rest)] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("select * from usage_records where organization_id = 'o' and id < 9 order by id desc limit 5", "_list"),
        ("select * from usage_records where job_id = 'j' order by id", "_job"),
        (
            "select day, sum(cost_micro) from usage_daily where organization_id = 'o' and day between 'a' and 'b'",
            "PRIMARY",
        ),
    ],
)
async def test_reads_seek_in_an_index_whatever_the_number_of_rows(store: SqlStore, query: str, index: str) -> None:
    plan = await store.look(lambda connection: str(connection.execute(text(f"explain query plan {query}")).all()))
    assert "SEARCH" in plan
    assert index in plan
    assert "SCAN" not in plan
