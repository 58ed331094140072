"""A router as a service of the node's contract: each task goes where routing sends it, not durable, and ends with its caller.

Not about gRPC (grpc.py), nor about jobs, which are durable (runner.py).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from node.callers import Audience
from node.contract import check_new, check_same, check_task
from protos.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    FabricError,
    Internal,
    ModelNotFound,
    NotFound,
    Overloaded,
)
from protos.types import (
    Estimate,
    Finished,
    Model,
    ModelId,
    NodeId,
    NodeStatus,
    OrganizationId,
    Queued,
    Task,
    TaskEvent,
    TaskId,
)
from providers.base import Snapshot
from providers.fabric import KIND as FABRIC
from providers.registry import ProviderRegistry
from router.accounts import Accounts
from router.api.placement import check_bounds
from router.candidates import Candidate
from router.decisions import Asker
from router.overview import NODE, models_of, overview
from router.routing import RoutingRequest
from router.serving import serve_once
from router.settings import RouterSettings

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Run:
    task: Task
    key_id: str | None  # of the key that pays
    audience: Audience
    is_queued: bool = False
    work: asyncio.Task[None] | None = field(default=None)


@runtime_checkable
class _Holder(Protocol):
    """A place whose models can be loaded and unloaded: a node."""

    async def load(self, model: ModelId) -> Model: ...

    async def unload(self, model: ModelId) -> Model: ...


class RouterService:
    """All calls on one event loop."""

    def __init__(
        self,
        node_id: NodeId,
        settings: RouterSettings,
        providers: ProviderRegistry,
        accounts: Accounts,
        version: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id, self._settings, self._providers, self._accounts = node_id, settings, providers, accounts
        self._version, self._clock, self._began_s = version, clock, clock()
        self._runs: dict[TaskId, _Run] = {}
        self._is_draining = False
        self._drained = asyncio.Event()  # told to those who watch
        self._empty = asyncio.Event()
        self._empty.set()

    # ---- tasks ----

    async def execute(self, task: Task, key_id: str | None = None) -> AsyncGenerator[TaskEvent, None]:
        """key_id: of the key that pays."""
        run = self._joined(task) or self._accepted(task, key_id)
        gone = Cancelled(f"task {task.id!r} was cancelled: its last caller went away")
        async with aclosing(run.audience.listen(lambda: self._interrupt(run, gone))) as events:
            async for event in events:
                yield event

    async def cancel(self, task_id: TaskId, owner: OrganizationId | None = None) -> None:
        """owner: whose task it may be; None: anybody's. Raises NotFound when none of theirs runs or waits here."""
        run = self._runs.get(task_id)
        if run is None or owner not in (None, run.task.organization_id):
            raise NotFound(f"no task {task_id!r} runs or waits on this router: it has ended, or never came")
        self._interrupt(run, Cancelled(f"task {task_id!r} was cancelled by request"))

    async def estimate(self, task: Task) -> Estimate:
        check_task(task)
        best = self._candidates(task)[0]
        return await self._providers.get(best.provider_id).estimate(replace(task, model=best.model))

    def _joined(self, task: Task) -> _Run | None:
        run = self._runs.get(task.id)
        if run is not None:
            check_same(run.task, task)
        return run

    def _accepted(self, task: Task, key_id: str | None) -> _Run:
        """A new run, on its way. Raises what refuses it at the door."""
        if self._is_draining:
            raise Draining(f"this router is shutting down: send task {task.id!r} to another", retry_after_s=1.0)
        if len(self._runs) >= self._settings.waiting_limit:
            raise Overloaded(
                f"{len(self._runs)} tasks are running, the limit is {self._settings.waiting_limit}: retry later",
                retry_after_s=1.0,
            )
        check_new(task)
        check_bounds(task.request, self._settings)
        candidates = self._candidates(task, key_id)
        run = self._runs[task.id] = _Run(task, key_id, Audience(task.id))
        self._empty.clear()
        run.work = asyncio.create_task(self._carry(run, candidates), name=f"task {task.id}")
        return run

    def _candidates(self, task: Task, key_id: str | None = None) -> Sequence[Candidate]:
        request = RoutingRequest(
            modality=task.modality, model=task.model, tier=task.tier, privacy=task.privacy, content=task.request
        )
        asker = Asker(organization_id=task.organization_id, key_id=key_id, resource_id=task.id, is_job=False)
        allowed = _allowed(task, self._providers.snapshots(task.organization_id))
        return self._accounts.decisions.route(request, allowed, asker).candidates

    async def _carry(self, run: _Run, candidates: Sequence[Candidate]) -> None:
        """Moves a run from its acceptance to its end. Cancelled by _interrupt, which has ended it then."""
        limit_s = run.task.timeout_s or self._settings.execute_timeout_s
        try:
            async with asyncio.timeout(limit_s) as timer:
                await self._serve(run, candidates)
        except FabricError as error:
            self._end(run, error)
        except Exception as error:  # the top of a task: it becomes a failed one and one log line
            if isinstance(error, TimeoutError) and timer.expired():
                late = DeadlineExceeded(f"task {run.task.id!r} did not end within its timeout of {limit_s:g} s")
                self._end(run, late)
                return
            log.exception("task %s failed", run.task.id)
            self._end(run, Internal(f"task {run.task.id!r} failed on this router: its log has the stack trace"))
        else:
            self._end(run, None)

    async def _serve(self, run: _Run, candidates: Sequence[Candidate]) -> None:
        event: TaskEvent | None = None
        serving = serve_once(self._providers, candidates, run.task, self._accounts, run.key_id)
        async with aclosing(serving) as events:
            async for served in events:
                event = served.event
                if not isinstance(event, Queued) or not run.is_queued:  # a place that refuses may have queued it before
                    run.audience.tell(event)
                run.is_queued = True
        if not isinstance(event, Finished):
            raise Internal(f"task {run.task.id!r} ended without a result: this is a bug")

    def _interrupt(self, run: _Run, error: FabricError) -> None:
        """Ends a run early: closing its events cancels it where it runs."""
        self._end(run, error)
        if run.work is not None:
            run.work.cancel()

    def _end(self, run: _Run, error: FabricError | None) -> None:
        """The first end counts."""
        if run.audience.is_over:
            return
        run.audience.end(error)
        del self._runs[run.task.id]
        if not self._runs:
            self._empty.set()

    # ---- models ----

    def models(self) -> Sequence[Model]:
        return models_of(self._providers.snapshots())

    async def load(self, model: ModelId) -> Model:
        return await self._on_holders(model, lambda holder: holder.load(model))

    async def unload(self, model: ModelId) -> Model:
        return await self._on_holders(model, lambda holder: holder.unload(model))

    async def _on_holders(self, model: ModelId, call: Callable[[_Holder], Awaitable[Model]]) -> Model:
        """On every node that has it; raises the first error, once all have answered."""
        answers = await asyncio.gather(*(call(holder) for holder in self._holders(model)), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return next(answer for answer in answers if isinstance(answer, Model))

    def _holders(self, model: ModelId) -> list[_Holder]:
        """Raises ModelNotFound."""
        found: list[_Holder] = []
        for snapshot in self._providers.snapshots():
            has_it = snapshot.kind == NODE and any(offer.model == model for offer in snapshot.offers)
            if has_it and isinstance(provider := self._providers.get(snapshot.id), _Holder):
                found.append(provider)
        if not found:
            raise ModelNotFound(f"no node has model {model!r}: ListModels names what there is, and its engine")
        return found

    # ---- status ----

    def status(self) -> NodeStatus:
        return overview(
            self._providers.snapshots(),
            self._node_id,
            is_draining=self._is_draining,
            uptime_s=self._clock() - self._began_s,
            version=self._version,
        )

    async def watch(self, interval_s: float) -> AsyncGenerator[NodeStatus, None]:
        """The status now, then at every interval, and at once when it begins to drain."""
        while True:
            yield self.status()
            if self._is_draining:
                await asyncio.sleep(interval_s)
                continue
            try:
                async with asyncio.timeout(interval_s):
                    await self._drained.wait()
            except TimeoutError:
                continue

    # ---- the end ----

    async def drain(self, timeout_s: float) -> int:
        """Of tasks only: jobs are durable and need none."""
        self._is_draining = True
        self._drained.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = list(self._runs.values())
        for run in left:
            self._interrupt(run, Cancelled(f"task {run.task.id!r} was cancelled: this router shut down"))
        return len(left)


def _allowed(task: Task, snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
    """Two routers that know each other would pass a task around for ever."""
    return [each for each in snapshots if each.kind != FABRIC] if task.is_forwarded else snapshots
