"""What is booked of a call, however it ends; and that money is reserved before it and settled after."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paid import an_attempt
from scripted import MODEL, ORGANIZATION, STARTED, Scripted, a_job, said

from protos.errors import Cancelled, FabricError, Internal, NodeUnavailable
from protos.types import Finished, Queued, Started, TextDelta, TextResult, Timings, Usage
from providers.pricing import Price
from providers.registry import ProviderRegistry
from router.accounts import Accounts, Call, booked
from router.candidates import Candidate
from router.serving import Served, serve, serve_once
from router.spending import BudgetExceeded, BudgetReserved, Outcome, Payer, Quote, month_of
from router.store import budget, usage
from router.store.budget import Balance, Budget
from router.store.sql import SqlStore
from router.tasks import task_of

PRICE = Price(input_micro=1_000_000, output_micro=2_000_000)  # a microdollar a token in, two a token out
QUOTE = Quote(estimated_micro=50, bound_micro=100)
WHOLE = Payer(organization_id=ORGANIZATION)
CUT = NodeUnavailable("cut", may_have_run=True)


def a_call(bound: int = 100, *, has_begun: bool = True) -> Call:
    return Call(an_attempt(bound=bound), PRICE if bound else None, "", 0.0, has_begun)


def finished(input_tokens: int, output_tokens: int) -> Finished:
    used = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return Finished(TextResult("x", "stop"), used, Timings())


def test_a_result_costs_what_its_usage_comes_to() -> None:
    spent = booked(a_call(), 1.5, finished=finished(10, 20))
    assert spent is not None
    assert (spent.outcome, spent.cost_micro, spent.is_exact, spent.took_s) == (Outcome.COMPLETED, 50, True, 1.5)


@pytest.mark.parametrize(
    ("error", "has_begun", "cost", "outcome"),
    [
        (NodeUnavailable("refused"), True, 0, Outcome.FAILED),
        (CUT, True, 100, Outcome.FAILED),
        (Cancelled("by request", may_have_run=True), True, 100, Outcome.CANCELLED),
        (Cancelled("in time"), False, 0, Outcome.CANCELLED),
        (None, True, 100, Outcome.CANCELLED),
        (None, False, 0, Outcome.CANCELLED),
    ],
)
def test_what_a_vendor_may_have_billed_counts_at_its_bound_and_nothing_else_does(
    error: FabricError | None, has_begun: bool, cost: int, outcome: Outcome
) -> None:
    spent = booked(a_call(has_begun=has_begun), 0.0, error=error)
    assert spent is not None
    assert (spent.cost_micro, spent.may_have_run, spent.is_exact) == (cost, bool(cost), not cost)
    assert spent.outcome is outcome


@given(st.booleans(), st.none() | st.just(CUT) | st.just(NodeUnavailable("gone")))
def test_a_free_call_costs_nothing_and_is_kept_once_it_has_begun(has_begun: bool, error: FabricError | None) -> None:
    spent = booked(a_call(0, has_begun=has_begun), 0.0, error=error)
    assert (spent is not None) is has_begun
    assert spent is None or (spent.cost_micro, spent.may_have_run) == (0, False)


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    store = SqlStore("sqlite://", lambda _: None)
    async with asyncio.timeout(60):
        await store.open()
        yield store
        await store.close()


def at(place: Scripted) -> Candidate:
    return Candidate(place.id, MODEL, "as told", QUOTE, PRICE)


async def all_of(run: AsyncGenerator[Served, None]) -> list[Served]:
    async with aclosing(run) as events:
        return [served async for served in events]


async def reserved(store: SqlStore) -> int:
    return sum(each.attempt.quote.bound_micro for each in await store.look(budget.orphans))


async def test_the_bound_is_reserved_while_the_call_runs_and_freed_when_its_cost_is_written(store: SqlStore) -> None:
    await store.change(budget.put(WHOLE, Budget(daily_limit_micro=100)))
    place, accounts, task = Scripted([Queued(0), STARTED, said("done")]), Accounts(store), task_of(a_job())
    run = serve_once(ProviderRegistry([place]), [at(place)], task, accounts, "key-1")
    async with aclosing(run) as events:
        await anext(events)
        assert await reserved(store) == 100
        async for _ in events:
            pass
    await accounts.close()
    assert await reserved(store) == 0
    [record] = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=9))
    assert (record.cost_micro, record.key_id, record.estimated_cost_micro, record.job_id) == (4, "key-1", 50, None)


async def test_without_room_in_the_budget_the_vendor_is_not_called(store: SqlStore) -> None:
    await store.change(budget.put(WHOLE, Budget(daily_limit_micro=99)))
    place, task = Scripted(), task_of(a_job())
    run = serve(ProviderRegistry([place]), [at(place)], task, Accounts(store).open(task))
    with pytest.raises(BudgetExceeded, match="may cost"):
        await all_of(run)
    assert not place.calls


async def test_what_no_budget_limits_is_in_the_books_before_its_end_is_told(store: SqlStore) -> None:
    place, task = Scripted([Queued(0), STARTED, said("done")]), task_of(a_job())
    run = serve(ProviderRegistry([place]), [at(place)], task, Accounts(store).open(task))
    async with aclosing(run) as events:
        async for served in events:
            if isinstance(served.event, Finished):
                break
        assert await reserved(store) == 100


async def test_a_budget_that_is_set_while_calls_run_counts_what_they_may_cost(store: SqlStore) -> None:
    hanging, place = Scripted([STARTED, TextDelta("a"), asyncio.Event()]), Scripted([STARTED, said("b")])
    accounts = Accounts(store)
    async with aclosing(
        serve_once(ProviderRegistry([hanging]), [at(hanging)], task_of(a_job()), accounts, None)
    ) as run:
        await anext(run)
        await store.change(budget.put(WHOLE, Budget(monthly_limit_micro=199)))
        with pytest.raises(BudgetReserved, match=r"calls that run hold \$0.0001 more"):
            await all_of(serve_once(ProviderRegistry([place]), [at(place)], task_of(a_job()), accounts, None))
    assert not place.calls
    await accounts.close()  # the first was left, and counts at its bound
    with pytest.raises(BudgetExceeded, match="has spent"):
        await all_of(serve_once(ProviderRegistry([place]), [at(place)], task_of(a_job()), accounts, None))
    assert not place.calls


async def test_a_thousand_direct_calls_cannot_overspend_a_budget_that_is_set_among_them(store: SqlStore) -> None:
    """200 begin before it, 100 while it is written, the others after it."""
    limit, bound, accounts, chance = 30_000, QUOTE.bound_micro, Accounts(store), random.Random(6)
    writing, written = asyncio.Event(), asyncio.Event()

    async def call() -> int:
        account, under_way = accounts.open(task_of(a_job())), None
        while under_way is None:
            try:
                under_way = await account.begin(at(Scripted()))
            except BudgetExceeded:
                return 0
            except BudgetReserved:
                await asyncio.sleep(0.02)  # others end meanwhile; nothing is expected of it
        await asyncio.sleep(chance.random() / 100)
        account.end(under_way, finished=finished(0, chance.randint(0, 50)))
        cost = sum(spent.cost_micro for spent in account.spent)
        accounts.settle(account)
        return cost

    async def call_after(event: asyncio.Event) -> int:
        await event.wait()
        return await call()

    async def limit_them() -> int:
        writing.set()
        await store.change(budget.put(WHOLE, Budget(monthly_limit_micro=limit)))
        written.set()
        return 0

    early, racing, late = (
        [make() for _ in range(count)]
        for make, count in ((call, 200), (lambda: call_after(writing), 100), (lambda: call_after(written), 700))
    )
    costs = await asyncio.gather(*early, *racing, *late, limit_them())
    await accounts.close()
    total = await store.look(lambda connection: budget.balance_of(connection, WHOLE, month_of(time.time())))
    assert total == Balance(period=total.period, spent_micro=sum(costs))
    assert limit - bound < total.spent_micro <= limit  # used up, and not a microdollar more


async def test_a_call_that_the_database_does_not_take_gives_nothing_and_counts_at_its_bound(store: SqlStore) -> None:
    refuse = "CREATE TRIGGER full BEFORE INSERT ON reservations BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    await store.change(lambda connection, _: connection.exec_driver_sql(refuse) and None)
    place, other = Scripted([STARTED, said("done")], provider_id="a"), Scripted(provider_id="b")
    accounts = Accounts(store)
    run = serve_once(ProviderRegistry([place, other]), [at(place), at(other)], task_of(a_job()), accounts, None)

    async def nothing_told() -> None:
        async for served in run:
            assert isinstance(served.event, Started)

    with pytest.raises(Internal, match="the disk is full"):
        await nothing_told()
    assert not other.calls  # nobody else is paid for it
    await accounts.close()
    [record] = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=9))
    assert (record.cost_micro, record.may_have_run) == (100, True)


async def test_each_call_of_a_task_is_booked_and_none_is_paid_after_one_that_may_have_been(store: SqlStore) -> None:
    places = [Scripted([STARTED, error], provider_id=name) for name, error in (("a", NodeUnavailable("x")), ("b", CUT))]
    other, task = Scripted(provider_id="c"), task_of(a_job())
    account = Accounts(store).open(task)
    run = serve(ProviderRegistry([*places, other]), [at(each) for each in (*places, other)], task, account)
    with pytest.raises(NodeUnavailable, match="cut"):
        await all_of(run)
    assert not other.calls
    assert [(each.attempt.provider_id, each.cost_micro) for each in account.take()] == [("a", 0), ("b", 100)]


async def test_a_reader_that_goes_leaves_what_it_may_have_cost(store: SqlStore) -> None:
    place, accounts, task = Scripted([STARTED, asyncio.Event()]), Accounts(store), task_of(a_job())
    async with aclosing(serve_once(ProviderRegistry([place]), [at(place)], task, accounts, None)) as events:
        await anext(events)
    await accounts.close()
    assert await reserved(store) == 0
    [record] = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=9))
    assert (record.outcome, record.cost_micro, record.may_have_run) == (Outcome.CANCELLED, 100, True)


async def test_calls_that_ended_together_are_each_booked_before_the_accounts_are_closed(store: SqlStore) -> None:
    accounts = Accounts(store)
    for name in ("a", "b", "c"):
        place = Scripted([STARTED, said(name)], provider_id=name)
        await all_of(serve_once(ProviderRegistry([place]), [at(place)], task_of(a_job()), accounts, None))
    await accounts.close()
    records = await store.look(lambda connection: usage.listed(connection, ORGANIZATION, before=None, limit=9))
    assert sorted(record.provider_id for record in records) == ["a", "b", "c"]
    assert await reserved(store) == 0
