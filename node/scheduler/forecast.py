"""When a task that came now would get a seat and how long it would hold it, from how it went with others before. Pure.

A task shares the device with its mates: were it shared equally, each would take from it what it wants, and no more than the
task wants itself. Half of that is counted: pictures cost each other all of it, the chats of a batch hardly any. What is
more or less than that is learned: it is kept as it was seen, and a forecast is the median of what is like the task, so one
outlier moves nothing. Not about what a task costs alone (costs.py), nor about the order in the room (rooms.py).
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

_SEEN: Final = 32  # of each kind of thing, the last ones
_KEPT: Final = 0.9  # of the weight of the one before: the last ten or so decide
_WEIGHTS: Final = tuple(_KEPT**age for age in range(_SEEN))
_UNLIKE: Final = 1e-3  # the least that one counts, however unlike: better than nothing
_GUESS: Final = 0.3  # how much the guess counts beside what was seen
_AFTER_KEPT: Final = 0.95

# How far apart two tasks count as unlike, so that one says little of the other. Chosen on 1,000 recorded tasks of the four
# engines that ship; half or twice as much changes the error by a tenth of itself.
_LOG_SIZE: Final = 0.7  # a task of twice the size
_LOG_MATES: Final = 0.5  # half as many again
_OTHERS: Final = 1.0  # one other model at work

# Of what mates want of the device. Over Poisson arrivals at 0.6 of what engines like the four can do, simulated on a steady
# and on a disturbed device, the median error was 0.23 with nothing counted, 0.21 with all of it and 0.20 with half.
_TAKEN: Final = 0.5


def shared_s(expected_s: float, beside_s: float) -> float:
    """What a task would take that shares the device. beside_s: what its mates want of it meanwhile."""
    return expected_s + _TAKEN * beside_s


@dataclass(frozen=True, slots=True)
class Met:
    """What a task met when it took its place in the room."""

    expected_s: float  # that it would take alone; 0: nobody could say
    mates: int = 0  # seated or waiting before it at its own model, at most all other seats
    others: int = 0  # the other models at work
    beside_s: float = 0.0  # what the mates want of the device, each no more than the task itself

    @property
    def shared_s(self) -> float:
        return shared_s(self.expected_s, self.beside_s)

    @property
    def at(self) -> tuple[float, float, float]:
        """Where it lies among others."""
        return (
            math.log(max(self.expected_s, 1e-6)) / _LOG_SIZE,
            math.log1p(self.mates) / _LOG_MATES,
            self.others / _OTHERS,
        )


_Seen = tuple[float, float, float, float]  # where it lay, and the value that was seen


@dataclass(frozen=True, slots=True)
class Experience:
    """The last values that were seen, newest first, each with what its task had met."""

    seen: tuple[_Seen, ...] = ()

    def plus(self, met: Met, value: float) -> "Experience":
        return Experience(((*met.at, value), *self.seen[: _SEEN - 1]))

    def like(self, met: Met, guess: float) -> list[tuple[float, float]]:
        """Values and their weights, smallest first; `guess` is among them, as if it had been seen a while ago.

        Without a call or a power but the one: it runs twice or more for each request.
        """
        size, mates, others = met.at
        exp = math.exp
        found = [(guess, _GUESS)]
        for (its_size, its_mates, its_others, value), weight in zip(self.seen, _WEIGHTS, strict=False):
            by_size, by_mates, by_others = its_size - size, its_mates - mates, its_others - others
            near = exp((by_size * by_size + by_mates * by_mates + by_others * by_others) / -2)
            found.append((value, weight * (near if near > _UNLIKE else _UNLIKE)))
        found.sort()
        return found


def quantiles(weighed: Sequence[tuple[float, float]], *shares: float) -> list[float]:
    """The values below which these shares of the weight lie. weighed: smallest first, not empty."""
    reached = list(itertools.accumulate([weight for _, weight in weighed]))
    last = len(weighed) - 1
    return [weighed[min(bisect_left(reached, share * reached[-1]), last)][0] for share in shares]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long seats are held, against what their tasks would take that share the device so.

    Other models, and who comes later, make it larger than 1; steps for many at once and answers that end early smaller.
    """

    stretch: float = 1.0
    spread: float = 0.0  # how much it differs between tasks, 0 to 1: half of the middle half, over the stretch

    def held(self, shared_s: float) -> float:
        """How long a task would hold its seat."""
        return shared_s * self.stretch

    def lefts(self, seated: Sequence[tuple[float, float]]) -> list[float]:
        """How long each goes on that would take so long, shared, and has its seat for so long. One that is past its time is
        not about to end because of that: where the ends are random as much is left as ever, where tasks end on time nothing."""
        stretch, least = self.stretch, self.stretch * self.spread
        return [max(shared_s * stretch - seated_s, shared_s * least) for shared_s, seated_s in seated]


@dataclass(frozen=True, slots=True)
class Paces:
    """Of one model."""

    stretches: Experience = field(default_factory=Experience)  # seconds that seats were held, over those shared
    befores: Experience = field(
        default_factory=Experience
    )  # seconds until a free seat was taken: a step had to end first
    usual_s: float = 0.0  # what tasks were expected to take alone, on average
    after_s: float | None = None  # from the end of a seat until the result is made and sent; None: none was seen

    def plus(self, met: Met, held_s: float) -> "Paces":
        """One more task has left its seat. One of which nothing was expected says nothing."""
        if met.expected_s <= 0:
            return self
        usual_s = _mixed(self.usual_s or None, met.expected_s, _KEPT)
        return replace(self, stretches=self.stretches.plus(met, held_s / met.shared_s), usual_s=usual_s)

    def seated(self, met: Met, before_s: float) -> "Paces":
        """One more task has taken a seat that was free when it came."""
        return replace(self, befores=self.befores.plus(met, before_s))

    def sent(self, after_s: float) -> "Paces":
        """One more result was sent."""
        return replace(self, after_s=_mixed(self.after_s, after_s, _AFTER_KEPT))

    def of(self, met: Met) -> Pace:
        """The pace of such a task. Of the first ever: models have equal shares of the device, as have mates."""
        low, stretch, high = quantiles(self.stretches.like(met, 1.0 + met.others), 0.25, 0.5, 0.75)
        return Pace(stretch, min((high - low) / 2 / stretch, 1.0) if stretch > 0 else 0.0)

    def before_s(self, met: Met) -> float:
        """Until a free seat is taken."""
        return quantiles(self.befores.like(met, 0.0), 0.5)[0]


def _mixed(past: float | None, now: float, kept: float) -> float:
    return now if past is None else kept * past + (1 - kept) * now


def seat_free_s(seats: int, seated_s: Sequence[float], waiting: int, each_s: float) -> float:
    """Seconds until a seat is free for who comes behind all of them: each of those who wait takes the next one free.

    seats: at least 1. seated_s: what is left of those who have a seat. waiting: how many go first, of `each_s` each. What it
    takes grows with the seats, not with those who wait.
    """
    free_s = sorted([*(max(0.0, left_s) for left_s in seated_s), *[0.0] * (seats - len(seated_s))])
    if each_s <= 0 or not waiting:
        return free_s[0]
    # As if their work could be poured over the seats, the first to be free first: so many are reached, up to this level.
    sums_s = [0.0, *itertools.accumulate(free_s)]
    poured_s = waiting * each_s
    reached = bisect_left(
        [seat * its_s - sum_s for seat, (its_s, sum_s) in enumerate(zip(free_s, sums_s, strict=False))], poured_s
    )
    level_s = (poured_s + sums_s[reached]) / reached
    # Of whole tasks each of these seats ends less than one short of it, and the next goes to who ends first.
    whole = [int((level_s - its_s) / each_s) for its_s in free_s[:reached]]
    ends_s = sorted([its_s + tasks * each_s for its_s, tasks in zip(free_s, whole, strict=False)])
    rounds, seat = divmod(waiting - sum(whole), reached)  # of no round, but for rounding
    return ends_s[seat] + rounds * each_s
