"""A vendor as a provider: tasks in, events out, whatever its wire is.

Not about one vendor's wire (an Api: openai_wire, anthropic.py), nor about limits, retries or metering (wrappers).
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias, cast

from protos.errors import InputInvalid, Internal, ModelNotFound
from protos.types import (
    Estimate,
    Finished,
    Modality,
    ModelId,
    NodeId,
    Preview,
    Progress,
    ProviderId,
    Queued,
    SegmentDelta,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TaskRequest,
    TaskResult,
    TextDelta,
    TextRequest,
    Tier,
    Timings,
    Usage,
)
from providers.base import Health, Menu, Offer, Snapshot
from providers.calls import RunningCalls
from providers.catalog import VendorModel
from providers.keys import VendorKey
from providers.pricing import expected_usage, typical_cost_micro

MAX_CALLS: Final = 64  # at once; vendors limit tokens per minute, not calls, so this only bounds our own sockets
_NOMINAL_S: Final = {Modality.TEXT: 0.7, Modality.IMAGE: 20.0, Modality.AUDIO: 3.0, Modality.EMBEDDING: 0.3}
_TOKENS_PER_S: Final = 60.0  # of a hosted model's answer, until something was seen


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a call: the whole result, and the usage as the vendor reported it."""

    result: TaskResult
    usage: Usage


CallPart: TypeAlias = Progress | TextDelta | SegmentDelta | Preview | Answer


@dataclass(frozen=True, slots=True)
class VendorCall:
    """One call, checked, with the key that pays for it."""

    id: TaskId
    request: TaskRequest
    model: VendorModel
    key: str = field(repr=False)


class Api(Protocol):
    """The wire of one vendor: requests, answers, errors. Knows nothing of tasks in flight."""

    async def open(self) -> None:
        """Makes its client. Reaches nobody. Raises InputInvalid when its library is not installed."""
        ...

    async def close(self) -> None: ...

    @property
    def manners(self) -> str:
        """What `check` refuses beyond the limits of a model: wires of equal manners refuse alike, but for the names that
        they tell. "": it is like no other."""
        ...

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        """Raises InputInvalid that names each field which the vendor does not take, before anything is sent."""
        ...

    def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        """Pieces of the result, then one Answer. Raises FabricError, whose may_have_run tells whether it may be paid."""
        ...


class Remote:
    """One vendor, or one server."""

    def __init__(
        self,
        id: ProviderId,  # noqa: A002  # the protocol's name
        kind: str,
        api: Api,
        key: VendorKey,
        models: Sequence[VendorModel],
        *,
        tier: Tier = Tier.PREMIUM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = id
        self._kind, self._api, self._key, self._tier, self._clock = kind, api, key, tier, clock
        self._calls = RunningCalls()
        self.offer(models)

    def offer(self, models: Sequence[VendorModel]) -> None:
        """What it serves from now on."""
        self._models = {model.id: model for model in models}
        costs = {model.id: typical_cost_micro(model.price, model.bounds) for model in models if model.price is not None}
        self._snapshot = Snapshot(
            id=self.id,
            kind=self._kind,
            tier=self._tier,
            offers=Menu(self._offer(model) for model in models),
            health=Health(status="healthy"),
            cost_micro=costs,
            key_variable=self._key.variable if self._key.fixed is None else "",
        )

    def _offer(self, model: VendorModel) -> Offer:
        return Offer(
            model=ModelId(model.id),
            modality=model.modality,
            is_default=model.is_default,
            context_tokens=model.context_tokens,
            max_batch=MAX_CALLS,
            price=model.price,
            bounds=model.bounds,
            refusal=_Check(self._api, model),
            taste=_taste(self._api, model),
        )

    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        model = self._model(task)
        self._api.check(task.request, model)
        arrived_at = self._clock()
        with self._calls.running(task.id) as running:
            yield Queued(0)
            running.check()
            call = VendorCall(task.id, task.request, model, self._key.of(task.organization_id))
            yield Started(NodeId(self.id), model.id)
            running.check()
            running.is_sent = True
            answer, first_at = None, None
            async with aclosing(cast(AsyncGenerator[CallPart, None], self._api.call(call))) as parts:
                while (part := await running.next(parts)) is not None:
                    first_at = self._clock() if first_at is None else first_at
                    if isinstance(part, Answer):
                        answer = part
                    else:
                        yield part
            if answer is None:
                raise Internal(f"the call of {self.id} ended without an answer: this is a bug", may_have_run=True)
            yield Finished(answer.result, answer.usage, self._timings(arrived_at, first_at))

    async def cancel(self, task_id: TaskId) -> None:
        self._calls.cancel(task_id)

    async def estimate(self, task: Task) -> Estimate:
        model = self._model(task)
        self._api.check(task.request, model)
        usage = expected_usage(task.request, model.bounds)
        run_s = _NOMINAL_S[model.modality]
        if isinstance(task.request, TextRequest):
            run_s += usage.output_tokens / _TOKENS_PER_S
        return Estimate(
            model=model.id, usage=usage, queue_s=0.0, load_s=0.0, run_s=run_s, total_s=run_s, fits_memory=True
        )

    async def start(self) -> None:
        await self._api.open()

    async def close(self) -> None:
        await self._api.close()

    def _model(self, task: Task) -> VendorModel:
        """Raises ModelNotFound."""
        model = self._models.get(task.model) if task.model else self._default(task.modality)
        if model is not None and model.modality is task.modality:
            return model
        known = ", ".join(name for name, known in self._models.items() if known.modality is task.modality)
        wanted = repr(task.model) if task.model else f"for {task.modality} by default"
        raise ModelNotFound(f"{self.id} has no {task.modality} model {wanted}: name one of {known or 'another place'}")

    def _default(self, modality: Modality) -> VendorModel | None:
        return next((m for m in self._models.values() if m.is_default and m.modality is modality), None)

    def _timings(self, arrived_at: float, first_at: float | None) -> Timings:
        ended_at = self._clock()
        return Timings(first_output_s=(first_at or ended_at) - arrived_at, total_s=ended_at - arrived_at)


def _taste(api: Api, model: VendorModel) -> str:
    limits = replace(model, vendor=ProviderId(""), id=ModelId(""), price=None, is_default=False)
    return f"{api.manners} {limits}" if api.manners else ""


@dataclass(frozen=True, slots=True)
class _Check:
    """A Refusal: what the wire says of the request, as a value. Equal where wire and model are."""

    api: Api
    model: VendorModel

    def __call__(self, request: TaskRequest) -> InputInvalid | None:
        try:
            self.api.check(request, self.model)
        except InputInvalid as error:
            return error
        return None
