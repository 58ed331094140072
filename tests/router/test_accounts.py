"""What is booked of a call, however it ends; and that money is reserved before it and settled after."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paid import an_attempt
from scripted import MODEL, ORGANIZATION, STARTED, Scripted, a_job, said

from protos.errors import Cancelled, FabricError, NodeUnavailable
from protos.types import Finished, Queued, TextResult, Timings, Usage
from providers.pricing import Price
from providers.registry import ProviderRegistry
from router.accounts import Accounts, Call, booked
from router.candidates import Candidate
from router.serving import Served, serve, serve_once
from router.spending import BudgetExceeded, Outcome, Payer, Quote
from router.store import budget, usage
from router.store.budget import Budget
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
