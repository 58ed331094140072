"""Health as it was seen: the error rate, the latency and the last success of the calls of the last minutes."""

from contextlib import suppress
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import STARTED, ManualClock, Scripted, Step, said
from wrapping import Gather

from protos.errors import FabricError, InputInvalid, NodeUnavailable
from protos.types import Queued
from providers.base import Health
from providers.wrappers import Metered, Wrapped
from providers.wrappers.metered import Seen, Window

WELL: list[Step] = [Queued(0), STARTED, said("done")]
DOWN: list[Step] = [Queued(0), STARTED, NodeUnavailable("it is down")]
HEALTHY = Health(status="healthy")


async def call(provider: Wrapped, gathered: Gather) -> None:
    with suppress(FabricError):
        await gathered(provider)


async def test_nothing_seen_is_what_the_vendor_says_of_itself() -> None:
    vendor = Scripted(WELL)
    assert Wrapped(vendor, [Metered()]).snapshot() == vendor.snapshot()


async def test_failures_and_successes_are_counted(gathered: Gather) -> None:
    clock = ManualClock()
    provider = Wrapped(Scripted(WELL, DOWN, WELL, WELL), [Metered(clock=clock)])
    for _ in range(4):
        await call(provider, gathered)
    clock.now += 7
    health = provider.snapshot().health
    assert (health.status, health.error_rate, health.success_s, health.latency_s) == ("healthy", 0.25, 7.0, 0.0)


async def test_a_vendor_whose_calls_mostly_fail_is_degraded_until_that_is_long_ago(gathered: Gather) -> None:
    clock = ManualClock()
    provider = Wrapped(Scripted(DOWN), [Metered(clock=clock)])
    for _ in range(4):
        await call(provider, gathered)
    health = provider.snapshot().health
    assert (health.status, health.reason) == ("degraded", "4 of the last 4 calls failed, the last: it is down")
    clock.now += 121
    assert provider.snapshot().health.status == "healthy"


def test_a_failure_is_seen_at_once_and_one_more_success_within_a_second() -> None:
    clock, snapshot = ManualClock(), Scripted(WELL).snapshot()
    metered = Metered(clock=clock)
    metered.add(Seen(clock(), "", 0.1))
    first = metered.seen(snapshot)
    metered.add(Seen(clock(), "", 0.3))
    assert metered.seen(snapshot) is first  # what a route looks at is as it was
    clock.now += 1
    assert metered.seen(snapshot).health.latency_s == 0.2
    metered.add(Seen(clock(), "down"))
    assert metered.seen(snapshot).health.error_rate == pytest.approx(1 / 3)


async def test_one_that_mostly_failed_is_well_with_the_success_that_makes_it_so(gathered: Gather) -> None:
    clock = ManualClock()
    provider = Wrapped(Scripted(DOWN, DOWN, WELL, WELL, WELL), [Metered(clock=clock)])
    for _ in range(4):
        await call(provider, gathered)
    assert provider.snapshot().health.status == "degraded"
    await call(provider, gathered)
    assert provider.snapshot().health.status == "healthy"


async def test_a_bad_request_says_nothing_of_the_vendor(gathered: Gather) -> None:
    provider = Wrapped(Scripted([Queued(0), InputInvalid("bad")]), [Metered()])
    for _ in range(9):
        await call(provider, gathered)
    assert provider.snapshot().health == HEALTHY


@pytest.mark.parametrize("status", ["unavailable", "degraded"])
def test_what_the_vendor_says_of_itself_stays(status: str) -> None:
    base = Health(status=status, reason="its own")  # type: ignore[arg-type]  # one of the three
    seen = Window([Seen(0.0, "down")] * 9).health(base, None, 1.0)
    assert (seen.status, seen.reason, seen.error_rate) == (status, "its own", 1.0)


def test_the_latency_is_the_median() -> None:
    calls = [Seen(0.0, "", latency) for latency in (0.1, 0.2, 30.0)]
    assert Window(calls).health(HEALTHY, 0.0, 1.0).latency_s == 0.2


@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from(["", "down"]), st.floats(0, 9)), max_size=300))
def test_calls_are_counted_as_they_come_and_go(listed: list[tuple[float, str, float]]) -> None:
    calls = [Seen(at, said, None if said else first) for at, said, first in sorted(listed)]
    window, now = Window(calls), 300.0
    health = window.health(HEALTHY, None, now)
    recent = [call for call in calls[-200:] if now - call.at <= 120]
    latencies = [call.first_output_s for call in recent if call.first_output_s is not None]
    assert health.error_rate == (sum(bool(call.said) for call in recent) / len(recent) if recent else 0.0)
    assert health.latency_s == (median(latencies) if latencies else None)
