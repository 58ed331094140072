"""Jobs that are paid: a thousand at once cannot overspend, and none is paid twice, also across a restart."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attached import assets_in, attachments_of
from scripted import MODEL, ORGANIZATION, STARTED, ManualClock, Scripted, a_job

from protos.errors import NodeUnavailable
from protos.types import Finished, TextResult, Tier, Timings, Usage
from providers.pricing import Price
from providers.registry import ProviderRegistry
from router.events import Feed
from router.jobs import Job, JobEvent, JobState
from router.retries import RetryPolicy
from router.runner import Runner, RunnerSettings
from router.spending import Outcome, Payer, month_of
from router.store import budget, usage
from router.store.budget import Balance, Budget
from router.store.sql import SqlStore

PRICE = Price(output_micro=1_000_000)  # a microdollar a token
WHOLE = Payer(organization_id=ORGANIZATION)
FAST = RunnerSettings(poll_s=0.05, lease_s=1e6, retries=RetryPolicy(backoff_s=0.001, backoff_max_s=0.01))


def paid(*plans: object, name: str = "vendor", **more: object) -> Scripted:
    place = Scripted(*plans, provider_id=name, tier=Tier.PREMIUM, **more)  # type: ignore[arg-type]  # as Scripted's own
    place.offers = [replace(offer, price=PRICE) for offer in place.offers]
    return place


def used(tokens: int) -> Finished:
    return Finished(TextResult("said", "stop"), Usage(output_tokens=tokens), Timings())


@dataclass(frozen=True)
class Rig:
    store: SqlStore
    runner: Runner
    clock: ManualClock

    async def ended(self, *jobs: Job, flying_s: float = 1.0) -> list[Job]:
        """The jobs, once all have ended. flying_s: passes meanwhile at each look, for those who wait before they try again."""
        while any((await self.store.count_unfinished()).values()):
            self.clock.now += flying_s
            self.runner.wake()
            await asyncio.sleep(0.02)
        return [job for each in jobs if (job := await self.store.get(each.id)) is not None]


@asynccontextmanager
async def running(folder: Path, *places: Scripted) -> AsyncIterator[Rig]:
    """A router's store and runner on a file of the folder; ended as a restart would."""

    def ring(stored: Sequence[JobEvent]) -> None:
        feed.ring(stored)

    clock = ManualClock()
    store = SqlStore(f"sqlite:///{folder}/jobs.db", ring, clock)
    feed = Feed(store)
    async with asyncio.timeout(90):
        await store.open()
        attachments = attachments_of(assets_in(folder, store, clock), clock)
        runner = Runner(store, feed, ProviderRegistry(places), FAST, clock, attachments=attachments, jitter=lambda: 1.0)
        runner.start()
        try:
            yield Rig(store, runner, clock)
        finally:
            await runner.close()
            await store.close()


async def balance(store: SqlStore) -> Balance:
    return await store.look(lambda connection: budget.balance_of(connection, WHOLE, month_of(ManualClock()())))


async def test_a_thousand_jobs_at_once_cannot_overspend_by_a_cent(tmp_path: Path) -> None:
    limit, bound = 20_000, 100
    async with running(tmp_path, paid([STARTED, used(60)], max_batch=64)) as rig:
        await rig.store.change(budget.put(WHOLE, Budget(monthly_limit_micro=limit)))
        jobs = [a_job(model=MODEL, params={"max_tokens": bound}) for _ in range(1000)]
        await asyncio.gather(*(rig.store.create(job, 2000) for job in jobs))
        states = Counter((job.state, (job.error or {}).get("code")) for job in await rig.ended(*jobs))
        total = await balance(rig.store)
        rows = await rig.store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=2000))
    done = states[(JobState.COMPLETED, None)]
    assert states == {(JobState.COMPLETED, None): done, (JobState.FAILED, "quota_exceeded"): 1000 - done}
    assert total.reserved_micro == 0
    assert total.spent_micro == 60 * done == sum(row.cost_micro for row in rows)
    assert limit - bound < total.spent_micro <= limit


async def test_a_call_that_may_have_been_paid_is_the_last_paid_one_of_its_job(tmp_path: Path) -> None:
    first, second = paid([STARTED, NodeUnavailable("cut", may_have_run=True)], name="a"), paid(name="b")
    async with running(tmp_path, first, second) as rig:
        job = a_job(model=MODEL, params={"max_tokens": 100})
        await rig.store.create(job, 10)
        [failed] = await rig.ended(job)
        [record] = await rig.store.look(lambda connection: usage.of_job(connection, job.id))
    assert failed.state is JobState.FAILED
    assert failed.error is not None
    assert "a call of a may have done this and been paid already" in failed.error["message"]
    assert (len(first.calls), len(second.calls)) == (1, 0)
    assert (record.cost_micro, record.is_exact, record.outcome) == (100, False, Outcome.FAILED)


@pytest.mark.rounds(1)
async def test_a_paid_call_that_its_router_left_is_not_made_again_after_a_restart(tmp_path: Path) -> None:
    hanging = paid([STARTED, asyncio.Event()])
    job = a_job(model=MODEL, params={"max_tokens": 100})
    async with running(tmp_path, hanging) as rig:
        await rig.store.create(job, 10)
        while not hanging.calls:  # noqa: ASYNC110 - the place has no bell
            await asyncio.sleep(0.01)
    again = paid()
    async with running(tmp_path, again) as rig:
        [failed] = await rig.ended(job)
        total = await balance(rig.store)
    assert failed.state is JobState.FAILED
    assert not again.calls
    assert total == Balance(period=total.period, spent_micro=100)


@pytest.mark.parametrize(("most", "state"), [(0.0001, JobState.COMPLETED), (0.00009, JobState.FAILED)])
async def test_a_job_is_sent_only_where_its_bound_is_within_its_max_cost(
    tmp_path: Path, most: float, state: JobState
) -> None:
    async with running(tmp_path, paid([STARTED, used(1)])) as rig:
        job = a_job(model=MODEL, params={"max_tokens": 100}, max_cost_usd=most)
        await rig.store.create(job, 10)
        [found] = await rig.ended(job)
    assert found.state is state
    if state is JobState.FAILED:
        assert found.error is not None
        assert "may cost $0.0001, the request's max_cost_usd is $0.00009" in found.error["message"]


@pytest.mark.parametrize(
    ("changes", "served_by"),
    [
        ({"deadline_s": 60.0}, "vendor"),
        ({"deadline_s": 900.0}, "local"),
        ({}, "local"),
        ({"deadline_s": 60.0, "privacy": "local_only"}, "local"),
        ({"deadline_s": 60.0, "max_cost_usd": 0.00001}, "local"),
    ],
    ids=["late here", "in time here", "no hurry", "not allowed out", "too dear"],
)
async def test_a_job_is_paid_for_when_its_deadline_is_missed_here_and_all_else_allows_it(
    tmp_path: Path, changes: dict[str, object], served_by: str
) -> None:
    local = Scripted(provider_id="local")
    local.eta_s = 120.0
    async with running(tmp_path, local, paid([STARTED, used(1)])) as rig:
        job = a_job(model=MODEL, params={"max_tokens": 100}, **changes)
        job = replace(job, created_at=rig.clock())
        await rig.store.create(job, 10)
        [found] = await rig.ended(job, flying_s=0.0)  # its deadline does not pass while this machine is slow
    assert (found.state, found.provider_id) == (JobState.COMPLETED, served_by)
