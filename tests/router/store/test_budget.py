"""Money as the store moves it: reserved before, settled after, never more than there is, also when the router dies."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from paid import an_attempt, spent
from scripted import ManualClock

from protos.types import OrganizationId
from router.spending import BudgetExceeded, BudgetReserved, Outcome, Payer, day_of, month_of
from router.store import budget, usage
from router.store.budget import Balance, Budget
from router.store.sql import SqlStore

ORGANIZATION = OrganizationId("org-1")
WHOLE = Payer(organization_id=ORGANIZATION)
KEY = Payer(organization_id=ORGANIZATION, key_id="key-1")
CENT = 10_000


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


async def balance(store: SqlStore, payer: Payer, period: str) -> Balance:
    return await store.look(lambda connection: budget.balance_of(connection, payer, period))


async def test_a_thousand_calls_at_once_cannot_overspend_by_a_cent(store: SqlStore, clock: ManualClock) -> None:
    limit, bound, chance = 3 * CENT * 100, 3 * CENT, random.Random(7)
    await store.change(budget.put(WHOLE, Budget(monthly_limit_micro=limit)))
    highest = 0

    async def call() -> int:
        nonlocal highest
        attempt = an_attempt(ORGANIZATION, bound)
        while True:
            try:
                await store.change(budget.reserve(attempt))
                break
            except BudgetExceeded:
                return 0
            except BudgetReserved:
                await asyncio.sleep(0)  # others settle meanwhile
        now = await balance(store, WHOLE, month_of(clock()))
        highest = max(highest, now.spent_micro + now.reserved_micro)
        cost = chance.randint(0, bound)
        await store.change(usage.booked([spent(attempt, cost)]))
        return cost

    costs = await asyncio.gather(*(call() for _ in range(1000)))
    at_the_end = await balance(store, WHOLE, month_of(clock()))
    assert at_the_end == Balance(period=month_of(clock()), spent_micro=sum(costs), reserved_micro=0)
    assert limit - bound < sum(costs) <= limit  # used up, and not a microdollar more
    assert highest <= limit


@pytest.mark.parametrize("payer", [WHOLE, KEY])
@pytest.mark.parametrize("limits", [Budget(monthly_limit_micro=100), Budget(daily_limit_micro=100)])
async def test_every_limit_of_the_organization_and_of_the_key_holds(
    store: SqlStore, payer: Payer, limits: Budget
) -> None:
    await store.change(budget.put(payer, limits))
    await store.change(budget.reserve(an_attempt(bound=100, payer=KEY)))
    with pytest.raises(BudgetReserved, match="key key-1" if payer is KEY else "organization org-1"):
        await store.change(budget.reserve(an_attempt(bound=1, payer=KEY)))
    if payer is KEY:  # another key of the organization has its own
        await store.change(
            budget.reserve(an_attempt(bound=1, payer=Payer(organization_id=ORGANIZATION, key_id="key-2")))
        )
    await store.change(budget.reserve(an_attempt("org-2", bound=1000)))  # without a budget


async def test_a_refused_reservation_leaves_nothing(store: SqlStore, clock: ManualClock) -> None:
    await store.change(budget.put(WHOLE, Budget(monthly_limit_micro=10)))
    with pytest.raises(BudgetExceeded):
        await store.change(budget.reserve(an_attempt(bound=11)))
    assert (await balance(store, WHOLE, month_of(clock()))).reserved_micro == 0
    assert await store.look(budget.orphans) == []


async def test_a_new_day_has_a_whole_budget_and_a_call_over_midnight_counts_for_the_day_it_began(
    store: SqlStore, clock: ManualClock
) -> None:
    await store.change(budget.put(WHOLE, Budget(daily_limit_micro=100)))
    late, first_day = an_attempt(bound=100), day_of(clock())
    await store.change(budget.reserve(late))
    clock.now += 24 * 3600
    await store.change(budget.reserve(an_attempt(bound=100)))
    await store.change(usage.booked([spent(late, 60)]))
    assert await balance(store, WHOLE, first_day) == Balance(period=first_day, spent_micro=60)
    today = day_of(clock())
    assert await balance(store, WHOLE, today) == Balance(period=today, reserved_micro=100)


async def test_a_budget_can_be_raised_lowered_and_taken_away(store: SqlStore) -> None:
    for limits in (Budget(monthly_limit_micro=5, daily_limit_micro=1), Budget(monthly_limit_micro=3), Budget()):
        await store.change(budget.put(WHOLE, limits))
        assert await store.look(lambda connection: budget.budget_of(connection, WHOLE)) == limits
    await store.change(budget.reserve(an_attempt(bound=10**9)))


async def test_only_who_never_had_a_budget_is_surely_unlimited(tmp_path: Path) -> None:
    async def opened() -> SqlStore:
        store = SqlStore(f"sqlite:///{tmp_path}/jobs.db", lambda _: None)
        await store.open()
        return store

    store = await opened()
    assert store.is_unlimited(ORGANIZATION)
    await store.change(budget.put(KEY, Budget(daily_limit_micro=0)))
    assert not store.is_unlimited(ORGANIZATION)  # a key of it is limited
    assert store.is_unlimited(OrganizationId("org-2"))
    await store.close()
    store = await opened()
    assert not store.is_unlimited(ORGANIZATION)
    await store.change(budget.put(KEY, Budget()))
    assert not store.is_unlimited(ORGANIZATION)
    await store.close()
    store = await opened()
    assert store.is_unlimited(ORGANIZATION)
    await store.close()


async def test_a_call_that_is_made_already_is_held_beyond_a_budget_set_since(
    store: SqlStore, clock: ManualClock
) -> None:
    limiting = store.change(budget.put(WHOLE, Budget(monthly_limit_micro=50)))
    holding = store.change(budget.hold(an_attempt(bound=60)))
    next_one = store.change(budget.reserve(an_attempt(bound=1)))
    await asyncio.gather(limiting, holding)
    with pytest.raises(BudgetReserved):
        await next_one
    assert (await balance(store, WHOLE, month_of(clock()))).reserved_micro == 60


async def test_what_a_dead_router_had_reserved_is_booked_at_its_bound(tmp_path: Path, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = SqlStore(url, lambda _: None, clock)
    await store.open()
    await store.change(budget.reserve(an_attempt(bound=70, job_id="job_1", payer=KEY)))
    await store.close()  # without settling: as a kill leaves it

    store = SqlStore(url, lambda _: None, clock)
    await store.open()
    for payer in (WHOLE, KEY):
        found = await balance(store, payer, month_of(clock()))
        assert (found.spent_micro, found.reserved_micro) == (70, 0)
    [record] = await store.look(lambda connection: usage.of_job(connection, "job_1"))
    assert (record.outcome, record.cost_micro, record.is_exact, record.may_have_run) == (Outcome.LOST, 70, False, True)
    assert await store.look(lambda connection: usage.may_have_run(connection, "job_1")) == ["vendor"]
    await store.close()
