"""The type of the fixture that gathers a wrapped provider's events."""

from collections.abc import Awaitable, Callable

from protos.types import TaskEvent

Gather = Callable[..., Awaitable[list[TaskEvent]]]
