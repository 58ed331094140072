"""The runs of one model: who waits, who has a seat, how many may wait, and what those who wait take together.

Counted as runs come and go: to look at each of ten thousand at every arrival took minutes. Not about what follows from it
for one more (estimates.py), nor about the order of those who wait (scheduler/rooms.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node.engine import Prepared
from node.entries import Entry
from node.runs import Run
from protos.errors import Overloaded
from protos.types import TaskId

_RETRY_AFTER_S: Final = 1.0  # a hint for clients: rooms of CPU models empty by a few tasks a second


@dataclass(frozen=True, slots=True)
class Together:
    """Some of those who wait, as one."""

    count: int = 0
    known: int = 0  # of them are prepared, so that it is known what they are expected to take
    expected_s: float = 0.0  # by the known, alone

    def plus(self, run: Run) -> "Together":
        return Together(self.count + 1, self.known + (run.expected_s > 0), self.expected_s + run.expected_s)

    def minus(self, run: Run) -> "Together":
        """With nothing that the rounding of the sum has left when it was the last."""
        if self.count == 1:
            return _NOBODY
        return Together(self.count - 1, self.known - (run.expected_s > 0), self.expected_s - run.expected_s)

    def mean_s(self, usual_s: float) -> float:
        """What one of them is expected to take. usual_s: of who is not prepared yet."""
        unknown = self.count - self.known
        return (self.expected_s + unknown * usual_s) / self.count if self.count else usual_s


_NOBODY: Final = Together()


@dataclass(frozen=True, slots=True)
class Ahead:
    """What one more finds at its model."""

    mates: int  # whatever their priority
    seated: Sequence[Run]
    held: Together  # they as one
    waiting: Together  # those who would go first; the turns of the organizations are not counted


class Crowd:
    """Every run of `entry` that waits or has a seat. Its bound is kept here, where a full room is refused in the call itself.
    Event loop only."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.waiting: dict[TaskId, Run] = {}  # in the order in which they came
        self.seated: dict[TaskId, Run] = {}
        self._held = _NOBODY  # the seated
        self._levels: dict[int, Together] = {}  # the waiting, by priority

    def check_room(self) -> None:
        """Raises Overloaded when one more may not come. Those for whom there is a free seat do not count as waiting: many
        that come at once have not been seated yet."""
        limit = self.entry.spec.waiting_limit
        if len(self.waiting) >= limit + max(0, self.entry.seats - len(self.seated)):
            raise Overloaded(
                f"{len(self.waiting)} tasks wait for model {self.entry.spec.id!r}, the limit is {limit}: "
                "retry later or raise waiting_limit in models.toml",
                details={"waiting": len(self.waiting), "limit": limit},
                retry_after_s=_RETRY_AFTER_S,
            )

    # ---- what happens to a run ----

    def come(self, run: Run) -> None:
        self.waiting[run.task.id] = run
        self._count(run)

    def prepare(self, run: Run, prepared: Prepared) -> None:
        """Again, when its model made room for another before it had a seat."""
        self._discount(run)
        run.prepare(prepared)
        self._count(run)

    def seat(self, run: Run) -> None:
        del self.waiting[run.task.id]
        self._discount(run)
        self.seated[run.task.id] = run
        self._held = self._held.plus(run)

    def leave(self, run: Run) -> None:
        """Its seat or its place is free: when the device is done with it, and at its end at the latest."""
        if self.waiting.pop(run.task.id, None) is not None:
            self._discount(run)
        elif self.seated.pop(run.task.id, None) is not None:
            self._held = self._held.minus(run)

    # ---- what one more finds ----

    def ahead(self, priority: int, but: Run | None = None) -> Ahead:
        """but: one that waits, whom it is asked for."""
        count, known, expected_s = 0, 0, 0.0
        for level, together in self._levels.items():
            if level >= priority:
                count, known = count + together.count, known + together.known
                expected_s += together.expected_s
        waiting = Together(count, known, expected_s)
        if but is not None:
            waiting = waiting.minus(but)
        mates = len(self.waiting) + len(self.seated) - (but is not None)
        return Ahead(mates, list(self.seated.values()), self._held, waiting)

    def _count(self, run: Run) -> None:
        priority = run.task.priority
        self._levels[priority] = self._levels.get(priority, _NOBODY).plus(run)

    def _discount(self, run: Run) -> None:
        left = self._levels[run.task.priority].minus(run)
        if left.count:
            self._levels[run.task.priority] = left
        else:
            del self._levels[run.task.priority]
