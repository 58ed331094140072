"""The breaker opens and closes as its docstring says, and nobody's bad request opens it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import STARTED, ManualClock, Scripted, Step, said
from wrapping import Gather

from protos.errors import FabricError, InputInvalid, NodeUnavailable, Overloaded, VendorRefused
from protos.types import Finished, Queued, Task
from providers.wrappers import Breaking, Wrapped
from providers.wrappers.breaking import Breaker, BreakerPolicy, Outcome, admitted, settled, wait_s

POLICY = BreakerPolicy(failures=3, open_s=10.0, open_max_s=35.0)
DOWN: list[Step] = [Queued(0), STARTED, NodeUnavailable("it is down")]
WELL: list[Step] = [Queued(0), STARTED, said("done")]


async def fail(provider: Wrapped, gathered: Gather, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NodeUnavailable, match="it is down"):
            await gathered(provider)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_it_opens_after_so_many_failures_in_a_row_and_closes_after_a_good_try(
    gathered: Gather, clock: ManualClock
) -> None:
    rung: list[str] = []
    vendor = Scripted(*[DOWN] * 3, WELL)
    provider = Wrapped(vendor, [Breaking(lambda: rung.append("changed"), POLICY, clock=clock)])
    await fail(provider, gathered, 3)
    assert provider.snapshot().health.status == "unavailable"
    assert "left alone for 10.0 s more: it is down" in provider.snapshot().health.reason
    with pytest.raises(NodeUnavailable, match=r"left alone for 10\.0 s") as refused:
        await gathered(provider)
    assert refused.value.retry_after_s == 10.0
    assert not refused.value.may_have_run
    assert len(vendor.order) == 3  # it was not called
    clock.now += 10
    assert provider.snapshot().health.status == "degraded"
    assert isinstance((await gathered(provider))[-1], Finished)
    assert provider.snapshot().health.status == "healthy"
    assert rung == ["changed", "changed"]


async def test_a_failed_try_opens_it_for_twice_as_long_up_to_the_most(gathered: Gather, clock: ManualClock) -> None:
    provider = Wrapped(Scripted(DOWN), [Breaking(policy=POLICY, clock=clock)])
    await fail(provider, gathered, 3)
    for expected_s in (20.0, 35.0, 35.0):
        clock.now += 100
        await fail(provider, gathered)
        with pytest.raises(NodeUnavailable) as refused:
            await gathered(provider)
        assert refused.value.retry_after_s == expected_s


async def test_only_one_call_tries(gathered: Gather, clock: ManualClock, task: Task) -> None:
    gate = asyncio.Event()
    provider = Wrapped(
        Scripted(DOWN, DOWN, DOWN, [Queued(0), STARTED, gate, said("done")]), [Breaking(policy=POLICY, clock=clock)]
    )
    await fail(provider, gathered, 3)
    clock.now += 10
    trying = provider.run(task)
    assert await anext(trying) == Queued(0)
    with pytest.raises(NodeUnavailable, match="left alone"):
        await gathered(provider)
    gate.set()
    assert isinstance([event async for event in trying][-1], Finished)
    assert provider.snapshot().health.status == "healthy"


async def test_a_try_whose_caller_goes_lets_the_next_one_try(gathered: Gather, clock: ManualClock, task: Task) -> None:
    provider = Wrapped(Scripted(*[DOWN] * 3, WELL), [Breaking(policy=POLICY, clock=clock)])
    await fail(provider, gathered, 3)
    clock.now += 10
    trying = provider.run(task)
    assert await anext(trying) == Queued(0)
    await trying.aclose()  # type: ignore[attr-defined]  # an async generator
    assert isinstance((await gathered(provider))[-1], Finished)


@pytest.mark.parametrize(
    "error", [InputInvalid("bad"), VendorRefused("bad key"), Overloaded("busy")], ids=lambda e: e.code
)
async def test_an_answer_that_says_no_is_no_failure(gathered: Gather, clock: ManualClock, error: FabricError) -> None:
    provider = Wrapped(Scripted([Queued(0), STARTED, error]), [Breaking(policy=POLICY, clock=clock)])
    for _ in range(10):
        with pytest.raises(type(error)):
            await gathered(provider)
    assert provider.snapshot().health.status == "healthy"


async def test_a_call_that_began_before_it_opened_does_not_close_it_by_going_away(
    gathered: Gather, clock: ManualClock, task: Task
) -> None:
    provider = Wrapped(Scripted(WELL, DOWN), [Breaking(policy=POLICY, clock=clock)])
    early = provider.run(task)
    assert await anext(early) == Queued(0)
    await fail(provider, gathered, 3)
    await early.aclose()  # type: ignore[attr-defined]  # an async generator
    assert provider.snapshot().health.status == "unavailable"


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.floats(0, 50)), max_size=40))
def test_it_is_open_only_for_a_bounded_time_and_a_success_always_closes_it(
    history: list[tuple[Outcome, float]],
) -> None:
    breaker, now = Breaker(), 0.0
    for outcome, passed in history:
        now += passed
        wait = wait_s(breaker, now)
        assert wait is None or 0 < wait <= POLICY.open_max_s
        if wait is None:
            breaker = admitted(breaker)
            breaker = settled(breaker, outcome, POLICY, now, is_trial=breaker.is_trying)
            assert not breaker.is_trying
            assert outcome is not Outcome.SUCCEEDED or breaker == Breaker()


def test_a_success_of_a_call_that_began_before_it_opened_does_not_close_it() -> None:
    opened = Breaker(open_until=10.0, open_s=10.0)
    assert settled(opened, Outcome.SUCCEEDED, POLICY, 1.0, is_trial=False) == opened
    assert settled(opened, Outcome.SUCCEEDED, POLICY, 11.0, is_trial=True) == Breaker()
