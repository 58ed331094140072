"""Waiting rooms: bounded, one per model, ordered by priority, then fairly among organizations, then by arrival.

A deadline does not move a task forward: else whoever gives the shortest one would go before all who gave an honest one,
or none. Priority is what says that a task is urgent; a deadline says when its answer is worth nothing any more, and the
task then fails with DEADLINE_EXCEEDED, waiting or running, and leaves its place to the others (service.py).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from protos.errors import Overloaded
from protos.types import ModelId, OrganizationId, TaskId

_RETRY_AFTER_S = 1.0  # a hint for clients: rooms of CPU models empty by a few tasks a second


class Waiting(Protocol):
    """What a room must know of those who wait in it."""

    @property
    def task_id(self) -> TaskId: ...
    @property
    def organization_id(self) -> OrganizationId: ...
    @property
    def priority(self) -> int: ...


W = TypeVar("W", bound=Waiting)


class Room(Generic[W]):
    """Those who wait for a seat of one model. Belongs to the loop thread; its bound is kept by Permits, at the door.

    Within a priority the organizations take turns, one task each, whoever brought how many.
    """

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[OrganizationId, OrderedDict[TaskId, W]]] = {}
        self._places: dict[TaskId, W] = {}  # those who wait, to be found when they cancel

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[W]:
        return (waiting for level in self._levels.values() for queue in level.values() for waiting in queue.values())

    def put(self, waiting: W) -> int:
        """How many go before it, as the room stands now."""
        level = self._levels.setdefault(waiting.priority, OrderedDict())
        queue = level.setdefault(waiting.organization_id, OrderedDict())
        queue[waiting.task_id] = self._places[waiting.task_id] = waiting
        return self._ahead_of_last(waiting.priority, waiting.organization_id)

    def first(self) -> W | None:
        """Whose turn it is; stays in the room."""
        if not self._levels:
            return None
        level = self._levels[max(self._levels)]
        queue = next(iter(level.values()))
        return next(iter(queue.values()))

    def take(self) -> W:
        """Whose turn it is; leaves the room, and its organization goes to the end of its level's line."""
        priority = max(self._levels)
        organization, queue = next(iter(self._levels[priority].items()))
        task_id, taken = queue.popitem(last=False)
        del self._places[task_id]
        self._levels[priority].move_to_end(organization)
        self._tidy(priority, organization)
        return taken

    def cancel(self, task_id: TaskId) -> W | None:
        """Takes that task out of the room; None when it is not there."""
        waiting = self._places.pop(task_id, None)
        if waiting is not None:
            del self._levels[waiting.priority][waiting.organization_id][task_id]
            self._tidy(waiting.priority, waiting.organization_id)
        return waiting

    def _ahead_of_last(self, priority: int, its: OrganizationId) -> int:
        """How many go before the last of an organization: all above its level, then its own and one of each per turn."""
        ahead = sum(len(queue) for p, level in self._levels.items() if p > priority for queue in level.values())
        level = self._levels[priority]
        turn, passed = len(level[its]) - 1, False
        for organization, queue in level.items():
            passed = passed or organization == its
            ahead += min(len(queue), turn if passed else turn + 1)
        return ahead

    def _tidy(self, priority: int, organization: OrganizationId) -> None:
        level = self._levels[priority]
        if not level[organization]:
            del level[organization]
        if not level:
            del self._levels[priority]


@dataclass(slots=True)
class Permits:
    """The bound of one room, kept where tasks arrive: a permit that cannot be had is the overload error. Those for whom
    there is a free seat do not count as waiting: many that come at once have not been seated yet."""

    model: ModelId
    limit: int
    seats: int
    taken: int = 0
    seated: int = 0

    def take(self) -> None:
        if self.taken >= self.limit + max(0, self.seats - self.seated):
            raise Overloaded(
                f"{self.taken} tasks wait for model {self.model!r}, the limit is {self.limit}: "
                "retry later or raise waiting_limit in models.toml",
                details={"waiting": self.taken, "limit": self.limit},
                retry_after_s=_RETRY_AFTER_S,
            )
        self.taken += 1

    def release(self) -> None:
        assert self.taken > 0, f"a permit of {self.model} was released twice: this is a bug"
        self.taken -= 1

    def seat(self) -> None:
        """Its task has a seat now, and waits no longer."""
        self.release()
        self.seated += 1

    def leave(self) -> None:
        """A task has left its seat."""
        assert self.seated > 0, f"a seat of {self.model} was left twice: this is a bug"
        self.seated -= 1
