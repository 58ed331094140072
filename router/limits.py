"""How many requests a key may send: a token bucket each. Pure, but for the dictionary that holds the buckets.

Not about how many jobs a key may have (router/store/operations.py), which must hold across restarts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protos.errors import RateLimited

BURST_S: Final = 1.0  # a key that was idle may send what this many seconds bring, at once


@dataclass(frozen=True, slots=True)
class Rate:
    per_s: float

    @property
    def burst(self) -> float:
        """The bucket's size: at least one request, however low the rate."""
        return max(1.0, self.per_s * BURST_S)


@dataclass(frozen=True, slots=True)
class Bucket:
    tokens: float
    at: float  # when it held them, on any clock that does not go back


@dataclass(frozen=True, slots=True)
class Taken:
    """A request's share of the bucket. Seconds count from now."""

    bucket: Bucket
    limit: int
    remaining: int
    reset_s: float  # until the bucket is full
    retry_after_s: float | None  # None: the request may pass; else until the next one may


def take(bucket: Bucket | None, rate: Rate, now: float) -> Taken:
    """One request at `now`. `bucket`: as the last one left it; None: full."""
    tokens = rate.burst if bucket is None else min(rate.burst, bucket.tokens + (now - bucket.at) * rate.per_s)
    passes = tokens >= 1.0 - _ROUNDING
    left = max(0.0, tokens - 1.0) if passes else tokens
    return Taken(
        bucket=Bucket(left, now),
        limit=int(rate.burst),
        remaining=int(left),
        reset_s=(rate.burst - left) / rate.per_s,
        retry_after_s=None if passes else (1.0 - tokens) / rate.per_s,
    )


_ROUNDING: Final = 1e-9  # who waits exactly as long as it was told must pass


class RateLimits:
    """The buckets of all keys, in memory: a restart fills them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def take(self, key_id: str, rate: Rate) -> Taken:
        taken = take(self._buckets.get(key_id), rate, self._clock())
        self._buckets[key_id] = taken.bucket
        return taken

    def check(self, key_id: str, rate: Rate) -> None:
        """Raises RateLimited."""
        taken = self.take(key_id, rate)
        if taken.retry_after_s is not None:
            raise refused(rate, taken.retry_after_s)


def refused(rate: Rate, retry_after_s: float) -> RateLimited:
    return RateLimited(
        f"the key may send {rate.per_s:g} requests a second and has sent more: wait {retry_after_s:.3g} s",
        retry_after_s=retry_after_s,
    )
