"""When a delivery is tried again, when it is given up, and when a target that does not answer is left alone. Pure.

Source of the delays: the schedule that https://www.standardwebhooks.com recommends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

_MINUTE, _HOUR = 60.0, 3600.0
# Seconds before each attempt, counted from the one before it.
SCHEDULE: Final = (
    0.0,
    5.0,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
MAX_RETRIES: Final = len(SCHEDULE) - 1
FAIRSTACK_SCHEDULE: Final = (0.0, 5.0, 25.0, 125.0)  # "up to 3 times with exponential backoff"
JITTER: Final = 0.2  # of the delay, added: what failed together does not come back together
LONGEST_S: Final = 24 * _HOUR  # that Retry-After can ask for
GIVE_UP_AFTER_S: Final = 5 * 24 * _HOUR  # the schedule is 75 h; the rest is room for a target that is left alone

_OK: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one attempt. `status` None: nobody answered, `error` says why."""

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivered: ...


@dataclass(frozen=True, slots=True)
class Again:
    due_at: float
    why: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    why: str
    disables: bool = False  # the webhook: its target wants no more


Verdict: TypeAlias = Delivered | Again | GivenUp


def judged(answer: Answer, attempt: int, delays: Sequence[float], now: float, jitter: float) -> Verdict:
    """What follows from attempt number `attempt`, counted from 1. `jitter`: 0 to 1, at random."""
    if answer.status is not None and answer.status in _OK:
        return Delivered()
    why = _why(answer)
    if answer.status == _GONE:
        return GivenUp(why, disables=True)
    if attempt >= len(delays):
        return GivenUp(f"{why}; it was tried {attempt} times")
    delay_s = delays[attempt] * (1 + JITTER * jitter)
    return Again(now + max(delay_s, min(answer.retry_after_s or 0.0, LONGEST_S)), why)


def _why(answer: Answer) -> str:
    if answer.status is None:
        return answer.error or "it did not answer"
    if answer.status == _GONE:
        return "it answered 410: it wants no more"
    if answer.status in _REDIRECT:
        return f"it answered {answer.status}, a redirect, which is not followed: give the URL that it leads to"
    return f"it answered {answer.status}"


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Of an answer's Retry-After, in seconds or as a date; None when there is none that can be read."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdecimal():
        return float(given[:9])
    try:
        moment = parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now)


# ---- targets that do not answer ----

_FAILURES: Final = 5  # in a row, until a target is left alone
_FIRST_REST_S, _LONGEST_REST_S = 10.0, 300.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """One target. Only silence counts: what answers, with whatever status, is alive."""

    failures: int = 0  # in a row
    rests_until: float = 0.0

    @property
    def is_fine(self) -> bool:
        return self.failures == 0

    def after(self, answer: Answer, now: float) -> "Circuit":
        if answer.status is not None:
            return Circuit()
        if now < self.rests_until:
            return self  # of an attempt that began before the rest: it says nothing that is not known
        failures = self.failures + 1
        if failures < _FAILURES:
            return replace(self, failures=failures)
        doublings = min(failures - _FAILURES, 10)
        return Circuit(failures, now + min(_FIRST_REST_S * 2.0**doublings, _LONGEST_REST_S))

    def room(self, limit: int, running: int, now: float) -> int:
        """How many more attempts may begin now. After its rest a target gets one, and all when that is answered."""
        if now < self.rests_until:
            return 0
        return max(0, (1 if self.failures >= _FAILURES else limit) - running)
