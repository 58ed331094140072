"""Calls made again: when, after how long, and never where it could be paid twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import STARTED, Scripted, said
from wrapping import Gather

from protos.errors import FabricError, InputInvalid, NodeUnavailable, Overloaded, VendorRefused
from protos.types import Finished, Queued, Started, TextDelta
from providers.wrappers import Retrying, Wrapped
from providers.wrappers.retrying import RetryPolicy, delay_s

DOWN = NodeUnavailable("no connection")
POLICY = RetryPolicy()


class Slept:
    """A sleep that only writes down."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def retrying(vendor: Scripted, slept: Slept, policy: RetryPolicy = POLICY) -> Wrapped:
    return Wrapped(vendor, [Retrying(policy, sleep=slept, jitter=lambda: 1.0)])


async def test_a_call_that_never_ran_is_made_again_and_its_beginning_is_told_once(gathered: Gather) -> None:
    vendor, slept = Scripted([Queued(0), STARTED, DOWN], [Queued(0), STARTED, said("done")]), Slept()
    events = await gathered(retrying(vendor, slept))
    assert [type(event) for event in events] == [Queued, Started, Finished]
    assert slept.waits == [0.25]


async def test_it_gives_up_after_as_many_calls_as_the_policy_says(gathered: Gather) -> None:
    vendor, slept = Scripted([Queued(0), DOWN]), Slept()
    with pytest.raises(NodeUnavailable, match="no connection"):
        await gathered(retrying(vendor, slept))
    assert vendor.order == ["task-1"] * 3
    assert slept.waits == [0.25, 0.5]


async def test_after_output_the_failure_stands(gathered: Gather) -> None:
    vendor, slept = Scripted([Queued(0), STARTED, TextDelta("d"), DOWN]), Slept()
    with pytest.raises(NodeUnavailable):
        await gathered(retrying(vendor, slept))
    assert len(vendor.order) == 1


async def test_a_call_that_may_have_run_is_not_paid_twice(gathered: Gather) -> None:
    cut = NodeUnavailable("the answer was cut", may_have_run=True)
    vendor, slept = Scripted([Queued(0), STARTED, cut]), Slept()
    with pytest.raises(NodeUnavailable) as caught:
        await gathered(retrying(vendor, slept))
    assert caught.value.may_have_run
    assert len(vendor.order) == 1


async def test_a_vendor_that_keeps_idempotency_keys_is_asked_again(gathered: Gather) -> None:
    cut = NodeUnavailable("the answer was cut", may_have_run=True)
    vendor, slept = Scripted([Queued(0), STARTED, cut], [Queued(0), STARTED, said("done")]), Slept()
    events = await gathered(retrying(vendor, slept, RetryPolicy(takes_idempotency_key=True)))
    assert isinstance(events[-1], Finished)


async def test_the_vendor_s_own_wait_is_honoured(gathered: Gather) -> None:
    busy = Overloaded("slow down", retry_after_s=1.5)
    vendor, slept = Scripted([Queued(0), busy], [Queued(0), STARTED, said("done")]), Slept()
    await gathered(retrying(vendor, slept))
    assert slept.waits == [1.75]


@pytest.mark.parametrize(
    "error", [InputInvalid("no"), VendorRefused("no"), Overloaded("later", retry_after_s=30.0)], ids=lambda e: e.code
)
def test_what_does_not_pass_soon_is_left_to_the_router(error: FabricError) -> None:
    assert delay_s(error, 1, POLICY, 0.5) is None


@given(st.integers(1, 10), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 10)))
def test_a_wait_is_bounded_and_never_shorter_than_asked(attempt: int, jitter: float, asked: float | None) -> None:
    wait = delay_s(Overloaded("later", retry_after_s=asked), attempt, POLICY, jitter)
    assert wait is None or (asked or 0.0) < wait <= POLICY.wait_max_s
