"""The router's service as one caller may use it: its scopes, and its own organization's tasks.

Not about whom a key stands for (keyring.py).
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from protos.types import (
    DEFAULT_ORGANIZATION,
    Estimate,
    Model,
    ModelId,
    NodeStatus,
    OrganizationId,
    Task,
    TaskEvent,
    TaskId,
)
from router.principals import Principal, Scope
from router.service import RouterService


class OnBehalf:
    """Each call raises Forbidden where the principal may not. What belongs to nobody needs no scope."""

    def __init__(self, principal: Principal, service: RouterService) -> None:
        self._principal, self._service = principal, service

    def execute(self, task: Task) -> AsyncGenerator[TaskEvent, None]:
        self._principal.require(Scope.PROVIDERS_EXECUTE)
        return self._service.execute(self._owned(task), self._principal.key_id)

    async def cancel(self, task_id: TaskId) -> None:
        self._principal.require(Scope.PROVIDERS_EXECUTE)
        await self._service.cancel(task_id, self._principal.organization_id)

    async def estimate(self, task: Task) -> Estimate:
        return await self._service.estimate(self._owned(task))

    def models(self) -> Sequence[Model]:
        return self._service.models()

    async def load(self, model: ModelId) -> Model:
        self._principal.require_operator()
        return await self._service.load(model)

    async def unload(self, model: ModelId) -> Model:
        self._principal.require_operator()
        return await self._service.unload(model)

    def status(self) -> NodeStatus:
        return self._service.status()

    def watch(self, interval_s: float) -> AsyncGenerator[NodeStatus, None]:
        return self._service.watch(interval_s)

    async def drain(self, timeout_s: float) -> int:
        self._principal.require_operator()
        return await self._service.drain(timeout_s)

    def _owned(self, task: Task) -> Task:
        """The task, for the organization that pays for it. A message that names none arrives as the default's."""
        asked: OrganizationId | None = task.organization_id
        if asked == DEFAULT_ORGANIZATION:
            asked = None
        return replace(task, organization_id=self._principal.act_for(asked))
