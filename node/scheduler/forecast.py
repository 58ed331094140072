"""When a task that came now would get a seat and how long it would hold it, from how it went with others before. Pure.

Not about what a task costs alone (costs.py), nor about the order in the room (rooms.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heapreplace
from typing import Final

_KEPT: Final = 0.95  # of the weight of the past at each end: the last 20 tasks or so decide


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who shares the device with a task: the seats taken at its own model, its own too, and the other models at work."""

    seated: int
    others: int = 0

    @property
    def kind(self) -> "Crowd":
        """Crowds of one kind go at about one pace: 1, 2 to 3, 4 to 7, 8 to 15, ... seats."""
        return Crowd(self.seated.bit_length(), self.others)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long seats were really held, against what their tasks were expected to take alone.

    Batch mates and other models make it larger than 1; answers that end before max_tokens make it smaller.
    """

    expected_s: float = 0.0
    held_s: float = 0.0
    squares: float = 0.0  # of held / expected, weighted by expected
    tasks: float = 0.0

    def plus(self, expected_s: float, held_s: float) -> "Pace":
        """One more task has ended. One of which nothing was expected says nothing."""
        if expected_s <= 0:
            return self
        return Pace(
            _KEPT * self.expected_s + expected_s,
            _KEPT * self.held_s + held_s,
            _KEPT * self.squares + held_s * held_s / expected_s,
            _KEPT * self.tasks + 1.0,
        )

    @property
    def stretch(self) -> float:
        """1 while nothing has been learned."""
        return self.held_s / self.expected_s if self.expected_s > 0 else 1.0

    @property
    def spread(self) -> float:
        """How much the stretch differs between tasks, 0 to 1: its variance over its square."""
        if self.held_s <= 0:
            return 0.0
        return min(max(self.squares / self.held_s * self.expected_s / self.held_s - 1.0, 0.0), 1.0)

    @property
    def usual_s(self) -> float:
        """What a task was expected to take alone, on average."""
        return self.expected_s / self.tasks if self.tasks else 0.0

    def held(self, expected_s: float) -> float:
        """How long a task would hold its seat."""
        return expected_s * self.stretch

    def left(self, expected_s: float, seated_s: float) -> float:
        """How long one goes on that has its seat for `seated_s`. One that is past its time is not about to end because
        of that: of what ends at random as much is left as ever, of what ends on time nothing."""
        held_s = self.held(expected_s)
        return max(held_s - seated_s, held_s * self.spread)


@dataclass(frozen=True, slots=True)
class Paces:
    """Of one model, by the kind of crowd that was there."""

    by_kind: Mapping[Crowd, Pace] = field(default_factory=dict)
    before_s: float | None = (
        None  # until a free seat is taken: the step that runs has to end first; None: none was seen
    )
    after_s: float | None = None  # from the end of a seat until the result is made and sent; None: none was seen

    def plus(self, crowd: Crowd, expected_s: float, held_s: float) -> "Paces":
        """One more task has left its seat."""
        pace = self.by_kind.get(crowd.kind, Pace()).plus(expected_s, held_s)
        return replace(self, by_kind={**self.by_kind, crowd.kind: pace})

    def sent(self, after_s: float) -> "Paces":
        """One more result was sent."""
        return replace(self, after_s=_mixed(self.after_s, after_s))

    def seated(self, before_s: float) -> "Paces":
        """One more task has taken a seat that was free when it came."""
        return replace(self, before_s=_mixed(self.before_s, before_s))

    def of(self, crowd: Crowd) -> Pace:
        """The pace in such a crowd; else that of the likest one, by its share of the device: models have equal ones."""
        wanted = crowd.kind
        if wanted in self.by_kind:
            return self.by_kind[wanted]
        known = min(self.by_kind, key=lambda kind: _unlikeness(kind, wanted), default=None)
        if known is None:
            return _slower(Pace(1.0, 1.0, 1.0), wanted.others + 1)
        return _slower(self.by_kind[known], (wanted.others + 1) / (known.others + 1))


def _mixed(past_s: float | None, now_s: float) -> float:
    return now_s if past_s is None else _KEPT * past_s + (1 - _KEPT) * now_s


def _unlikeness(kind: Crowd, wanted: Crowd) -> tuple[int, int]:
    """The more crowded one of two that are equally unlike: a forecast should rather be long than short."""
    return abs(kind.seated - wanted.seated) + abs(kind.others - wanted.others), -kind.seated


def _slower(pace: Pace, times: float) -> Pace:
    return Pace(pace.expected_s, pace.held_s * times, pace.squares * times * times, pace.tasks)


def seat_free_s(seats: int, seated_s: Sequence[float], waiting_s: Sequence[float]) -> float:
    """Seconds until a seat is free for who comes behind all of them: each of those who wait takes the next one free.

    seats: at least 1. seated_s: what is left of those who have a seat; waiting_s: of those who go first, in order.
    """
    free_s = [max(0.0, left_s) for left_s in seated_s] + [0.0] * (seats - len(seated_s))
    heapify(free_s)
    for takes_s in waiting_s:
        heapreplace(free_s, free_s[0] + takes_s)
    return free_s[0]
