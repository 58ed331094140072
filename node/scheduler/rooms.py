"""Waiting rooms: bounded, one per model, ordered by priority, then fairly among organizations, then by arrival.

A deadline does not move a task forward: else whoever gives the shortest one would go before all who gave an honest one,
or none. Priority is what says that a task is urgent; a deadline says when its answer is worth nothing any more, and the
task then fails with DEADLINE_EXCEEDED, waiting or running, and leaves its place to the others (service.py).
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from protos.types import OrganizationId, TaskId


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
    """Those who wait for a seat of one model. Belongs to the loop thread; its bound is kept at the door (node/crowd.py).

    Within a priority the organizations take turns, one task each, whoever brought how many.
    """

    def __init__(self) -> None:
        self._levels: dict[int, OrderedDict[OrganizationId, OrderedDict[TaskId, W]]] = {}
        self._counts: dict[int, int] = {}  # of each level
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
        self._counts[waiting.priority] = self._counts.get(waiting.priority, 0) + 1
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
        ahead = sum(count for level, count in self._counts.items() if level > priority)
        level = self._levels[priority]
        turn, passed = len(level[its]) - 1, False
        if turn == 0:  # its organization came last: one of each other goes before it, however many there are
            return ahead + len(level) - 1
        for organization, queue in level.items():
            passed = passed or organization == its
            ahead += min(len(queue), turn if passed else turn + 1)
        return ahead

    def _tidy(self, priority: int, organization: OrganizationId) -> None:
        """One has left that queue."""
        self._counts[priority] -= 1
        level = self._levels[priority]
        if not level[organization]:
            del level[organization]
        if not level:
            del self._levels[priority], self._counts[priority]
