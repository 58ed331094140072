"""Waiting rooms: bounded, one per model, ordered by priority, then fairly among organizations, then by arrival.

Not about deadlines: who gives up on a task cancels it (service.py).
"""

from collections import OrderedDict, deque
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
        self._levels: dict[int, OrderedDict[OrganizationId, deque[W]]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for level in self._levels.values() for queue in level.values())

    def __iter__(self) -> Iterator[W]:
        return (waiting for level in self._levels.values() for queue in level.values() for waiting in queue)

    def put(self, waiting: W) -> None:
        level = self._levels.setdefault(waiting.priority, OrderedDict())
        level.setdefault(waiting.organization_id, deque()).append(waiting)

    def first(self) -> W | None:
        """Whose turn it is; stays in the room."""
        if not self._levels:
            return None
        level = self._levels[max(self._levels)]
        return next(iter(level.values()))[0]

    def take(self) -> W:
        """Whose turn it is; leaves the room, and its organization goes to the end of its level's line."""
        priority = max(self._levels)
        organization, queue = next(iter(self._levels[priority].items()))
        taken = queue.popleft()
        self._levels[priority].move_to_end(organization)
        self._tidy(priority, organization)
        return taken

    def cancel(self, task_id: TaskId) -> W | None:
        """Takes that task out of the room; None when it is not there."""
        for waiting in self:
            if waiting.task_id == task_id:
                self._levels[waiting.priority][waiting.organization_id].remove(waiting)
                self._tidy(waiting.priority, waiting.organization_id)
                return waiting
        return None

    def position(self, waiting: W) -> int:
        """How many go before it, as the room stands now."""
        higher = sum(
            len(queue) for p, level in self._levels.items() if p > waiting.priority for queue in level.values()
        )
        level = self._levels[waiting.priority]
        turn = level[waiting.organization_id].index(waiting)
        ahead, passed = higher, False
        for organization, queue in level.items():
            passed = passed or organization == waiting.organization_id
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
    """The bound of one room, kept where tasks arrive: a permit that cannot be had is the overload error."""

    model: ModelId
    limit: int
    taken: int = 0

    def take(self) -> None:
        if self.taken >= self.limit:
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
