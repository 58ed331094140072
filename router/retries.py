"""What becomes of a job whose run raised: it ends, or it goes back to the queue for a while. Pure."""

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protos.errors import AttemptsExhausted, Code, FabricError
from router.jobs import JobState, Json, error_json
from router.store.base import Ending

# Raised before a node gives a seat, and yet the job's own doing as far as anyone can tell: they count, or a job whose
# model can never be loaded would come back for ever. A node that is full, drains or cannot be reached counts nothing.
# A vendor's key that is refused takes a person, who has those few attempts to change it.
# What the caller's URL leads to may be there later: the one failure of an input that is tried again.
COUNTED: Final = frozenset({Code.LOAD_FAILED, Code.OUT_OF_MEMORY, Code.VENDOR_REFUSED, Code.INPUT_VALIDATION_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    max_attempts: int = 5  # runs that began; the last failure of so many ends the job
    backoff_s: float = 0.5  # before the second attempt; doubles with each
    backoff_max_s: float = 30.0  # a node is back within that, or it takes a person


@dataclass(frozen=True, slots=True)
class Failures:
    """What one router remembers of a job that it gave back: its row counts only the attempts that started."""

    releases: int = 0
    counted: int = 0  # of those before a start, as COUNTED says
    last: FabricError | None = field(default=None, compare=False)  # why it was given back


@dataclass(frozen=True, slots=True)
class Again:
    """Back to the queue for `delay_s`. `cause`: what its event tells; None: no attempt was spent, there is no event."""

    delay_s: float
    cause: Json | None
    failures: Failures


Verdict: TypeAlias = Ending | Again


def verdict(
    error: FabricError, *, has_started: bool, attempts: int, failures: Failures, policy: RetryPolicy, jitter: float
) -> Verdict:
    """attempts: those that started, this one too. jitter: 0 to 1, at random."""
    if error.code is Code.CANCELLED:
        return Ending(state=JobState.CANCELLED, error=error_json(error))
    if not error.retryable:
        return failed(error)
    counts = has_started or error.code in COUNTED
    failures = Failures(failures.releases + 1, failures.counted + (counts and not has_started), error)
    if counts and attempts + failures.counted >= policy.max_attempts:
        return failed(exhausted(policy, error))
    return Again(_delay_s(error, failures.releases, policy, jitter), error_json(error) if counts else None, failures)


def exhausted(policy: RetryPolicy, last: FabricError | None) -> AttemptsExhausted:
    cause = f"the last one ended with {last.code}: {last.message}" if last else "the last one ended with its router"
    return AttemptsExhausted(f"the job was run {policy.max_attempts} times, as often as it may be; {cause}")


def failed(error: FabricError) -> Ending:
    return Ending(state=JobState.FAILED, error=error_json(error))


def _delay_s(error: FabricError, releases: int, policy: RetryPolicy, jitter: float) -> float:
    """Exponential, of which the upper half is left to chance, so that jobs that failed together come back apart."""
    backoff_s: float = min(policy.backoff_s * 2.0 ** min(releases - 1, 30), policy.backoff_max_s)
    return max(backoff_s * (0.5 + jitter / 2), error.retry_after_s or 0.0)
