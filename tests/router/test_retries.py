"""What a raised error makes of a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import (
    ERROR_OF,
    Cancelled,
    Code,
    Draining,
    FabricError,
    LoadFailed,
    NodeUnavailable,
    OutOfMemory,
    Overloaded,
    RateLimited,
)
from router.jobs import JobState
from router.retries import Again, Failures, RetryPolicy, Verdict, verdict
from router.store.base import Ending

POLICY = RetryPolicy(max_attempts=3, backoff_s=1.0, backoff_max_s=8.0)


def judge(
    error: FabricError, attempts: int = 1, failures: Failures = Failures(), *, started: bool = True, jitter: float = 1.0
) -> Verdict:
    return verdict(error, has_started=started, attempts=attempts, failures=failures, policy=POLICY, jitter=jitter)


@pytest.mark.parametrize("code", [code for code in Code if not ERROR_OF[code].retryable and code is not Code.CANCELLED])
def test_what_stays_wrong_fails_at_once(code: Code) -> None:
    assert judge(ERROR_OF[code]("why")) == Ending(state=JobState.FAILED, error={"code": code, "message": "why"})


@pytest.mark.parametrize("error", [NodeUnavailable, Draining, LoadFailed, OutOfMemory, RateLimited])
def test_what_may_pass_is_tried_again_and_told(error: type[FabricError]) -> None:
    again = judge(error("why"))
    assert isinstance(again, Again)
    assert again.cause == {"code": error.code, "message": "why"}


@pytest.mark.parametrize("error", [NodeUnavailable, Draining, Overloaded])
def test_a_refusal_before_the_start_never_counts_and_is_not_told(error: type[FabricError]) -> None:
    again = judge(error("why"), attempts=2, failures=Failures(100, 0), started=False)
    assert isinstance(again, Again)
    assert (again.cause, again.failures) == (None, Failures(101, 0))


def test_the_last_attempt_names_its_cause() -> None:
    ending = judge(NodeUnavailable("it died"), attempts=3)
    assert isinstance(ending, Ending)
    assert ending.error is not None
    assert ending.error["code"] == "attempts_exhausted"
    assert "3 times" in ending.error["message"]
    assert "it died" in ending.error["message"]


def test_loads_that_fail_count_though_nothing_started() -> None:
    failures = Failures()
    for _ in range(2):
        again = judge(LoadFailed("bad file"), attempts=0, failures=failures, started=False)
        assert isinstance(again, Again)
        failures = again.failures
    assert isinstance(judge(LoadFailed("bad file"), attempts=0, failures=failures, started=False), Ending)


def test_a_task_cancelled_elsewhere_cancels_the_job() -> None:
    ending = judge(Cancelled("by the operator"))
    assert isinstance(ending, Ending)
    assert ending.state is JobState.CANCELLED


def test_the_delay_doubles_up_to_its_bound() -> None:
    delays = []
    for releases in range(6):
        again = judge(Overloaded("full"), failures=Failures(releases, 0), started=False)
        assert isinstance(again, Again)
        delays.append(again.delay_s)
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_place_that_says_when_is_heard() -> None:
    again = judge(Overloaded("full", retry_after_s=20.0), started=False)
    assert isinstance(again, Again)
    assert again.delay_s == 20.0


@given(st.floats(0, 1), st.integers(0, 10_000))
def test_the_delay_is_spread_over_its_upper_half(jitter: float, releases: int) -> None:
    again = judge(Overloaded("full"), failures=Failures(releases, 0), started=False, jitter=jitter)
    assert isinstance(again, Again)
    full = min(2.0 ** min(releases, 30), 8.0)
    assert full / 2 <= again.delay_s <= full
