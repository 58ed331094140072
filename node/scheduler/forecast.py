"""When a task that came now would get a seat, from what those before it are expected to take. Pure.

Not about what a task costs alone (costs.py), nor about the order in the room (rooms.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Final

_KEPT: Final = 0.95  # of the weight of the past at each end: the last 20 tasks or so decide


@dataclass(frozen=True, slots=True)
class Pace:
    """How long seats were really held, against what their tasks were expected to take alone.

    Batch mates and other models make it larger than 1; answers that end before max_tokens make it smaller.
    """

    expected_s: float = 0.0
    held_s: float = 0.0

    def plus(self, expected_s: float, held_s: float) -> "Pace":
        """One more task has ended."""
        return Pace(_KEPT * self.expected_s + expected_s, _KEPT * self.held_s + held_s)

    @property
    def stretch(self) -> float:
        """1 while nothing has been learned."""
        return self.held_s / self.expected_s if self.expected_s > 0 else 1.0


def seat_free_s(seats: int, seated_s: Sequence[float], waiting_s: Sequence[float]) -> float:
    """Seconds until a seat is free for who comes behind all of them: each of those who wait takes the next one free.

    seats: at least 1. seated_s: what is left of those who have a seat; waiting_s: of those who go first, in order.
    """
    free_s = [max(0.0, left_s) for left_s in seated_s] + [0.0] * (seats - len(seated_s))
    heapify(free_s)
    for takes_s in waiting_s:
        heapreplace(free_s, free_s[0] + takes_s)
    return free_s[0]
