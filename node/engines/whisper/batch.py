"""Which windows share the next call. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from protos.types import TaskId


@dataclass(frozen=True, slots=True)
class Key:
    """What all windows of one CTranslate2 generate call must have in common.

    Language, task, prompt text and window are each item's own; the number of prompt tokens is not.
    """

    prompt_tokens: int
    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A seat's windows that could go into the next call, in order."""

    task_id: TaskId
    served: int  # the number of the last step that served it
    windows: Sequence[tuple[int, Key]]  # (index, key)


@dataclass(frozen=True, slots=True)
class Pick:
    task_id: TaskId
    window: int


def lead(seats: Sequence[Waiting]) -> Key:
    """The key of the next call: that of the seat that was served longest ago."""
    return min(seats, key=lambda seat: seat.served).windows[0][1]


def choose(seats: Sequence[Waiting], key: Key, rows: int) -> list[Pick]:
    """At most `rows` windows of the key: first one of each seat, those served longest ago first, then second ones."""
    fitting = [
        (rank, seat.served, Pick(seat.task_id, window))
        for seat in seats
        for rank, window in enumerate(window for window, own in seat.windows if own == key)
    ]
    return [pick for _, _, pick in sorted(fitting, key=lambda item: item[:2])[:rows]]
