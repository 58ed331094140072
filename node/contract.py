"""What whoever serves the contract of node.proto offers, a node or a router, and what both check at the door.

Not about gRPC (rpc.py) nor about how a task runs (service.py, router/grpc.py).
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from protos.errors import FabricError, IdempotencyKeyReused, InputInvalid, Internal
from protos.types import Estimate, Model, ModelId, NodeStatus, Task, TaskEvent, TaskId

log = logging.getLogger(__name__)


class Service(Protocol):
    """The calls of the contract on dataclasses. All on one event loop; each raises the FabricError that ends the call."""

    def execute(self, task: Task) -> AsyncGenerator[TaskEvent, None]:
        """The events of the task, Finished last. Joins it when it already runs. Raises the FabricError that ended it.

        Close the iterator to go away; the task is cancelled when its last caller has.
        """
        ...

    async def cancel(self, task_id: TaskId) -> None:
        """Ends the task. Raises NotFound when it does not run or wait here."""
        ...

    async def estimate(self, task: Task) -> Estimate:
        """What the task would take if it were sent now. Raises what it would raise then, but for overload."""
        ...

    def models(self) -> Sequence[Model]: ...

    async def load(self, model: ModelId) -> Model:
        """Returns when the model is ready. Raises ModelNotFound, LoadFailed or DoesNotFit."""
        ...

    async def unload(self, model: ModelId) -> Model:
        """Returns when the memory is free. Raises ModelNotFound, or Conflict while the model has tasks."""
        ...

    def status(self) -> NodeStatus: ...

    def watch(self, interval_s: float) -> AsyncGenerator[NodeStatus, None]:
        """The status now, then at every interval at the latest."""
        ...

    async def drain(self, timeout_s: float) -> int:
        """Refuses new tasks, ends the running ones; cancels what is left after the timeout, and counts it."""
        ...


def check_new(task: Task) -> None:
    """What `check_task` checks, and that it can be found again. Raises InputInvalid."""
    if not task.id:
        raise InputInvalid.at("id", "is empty: give the task an id")
    check_task(task)


def check_task(task: Task) -> None:
    """Raises InputInvalid for what no engine and no vendor looks at."""
    if not 0 <= task.priority <= 100:
        raise InputInvalid.at("priority", f"is {task.priority}: give 0 to 100")
    if task.timeout_s is not None and not task.timeout_s > 0:
        raise InputInvalid.at("timeout_s", f"is {task.timeout_s}: give a number of seconds above 0")


def check_same(running: Task, given: Task) -> None:
    """Raises IdempotencyKeyReused when one id stands for two requests."""
    if _asked(running) != _asked(given):
        raise IdempotencyKeyReused(f"task {given.id!r} runs with another request: give each request its own id")


def _asked(task: Task) -> tuple[object, ...]:
    return task.request, task.model, task.organization_id, task.tier, task.privacy


def named(error: Exception) -> FabricError:
    """What the caller is told of it. What is no FabricError is a defect: one log line, and Internal."""
    if isinstance(error, FabricError):
        return error
    log.error("a call failed", exc_info=error)
    return Internal(f"the call failed ({type(error).__name__}): the log of this server has the stack trace")
