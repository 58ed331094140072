"""GET /v1/jobs/{id}/explain: why a job is where it is, gathered from the store, the runner and the places.

Not about what follows from that (router/explain.py).
"""

import asyncio
import time
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from protos.errors import FabricError
from protos.types import Estimate, ModelId, ModelStatus, ProviderId
from router.api.context import Parts, WithParts, WithReach
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.api.jobs import existing
from router.attempt import Attempt, routing_request
from router.explain import AttemptRecord, Dispatch, Explanation, Facts, explain
from router.jobs import TERMINAL, Job, JobState
from router.routing import Route, order
from router.tasks import task_of

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

ESTIMATE_S: Final = 2.0  # a place that takes longer to say when has no time to say


class HoldShape(BaseModel):
    code: str = Field(description="no_provider, budget, seat, retry_delay, claim, no_room or turn")
    message: str
    until: str | None = Field(description="when it ends of itself, where that is known")


class CandidateShape(BaseModel):
    provider_id: str
    model: str
    reason: str


class SkippedShape(BaseModel):
    provider_id: str
    reason: str


class RoutingShape(BaseModel):
    rule: str
    candidates: list[CandidateShape] = Field(description="best first; of a started job: where it went, and where then")
    skipped: list[SkippedShape]


class CauseShape(BaseModel):
    code: str
    message: str


class AttemptShape(BaseModel):
    number: int
    started_at: str | None
    ended_at: str | None
    provider_id: str | None
    node_id: str | None
    model: str | None
    cause: CauseShape | None = Field(description="why it ended without a result")
    again_at: str | None = Field(description="when the next one may begin")

    @classmethod
    def of(cls, record: AttemptRecord) -> "AttemptShape":
        return cls(
            number=record.number,
            started_at=_iso(record.started_at),
            ended_at=_iso(record.ended_at),
            provider_id=record.provider_id,
            node_id=record.node_id,
            model=record.model,
            cause=CauseShape(**record.cause) if record.cause else None,
            again_at=_iso(record.again_at),
        )


class ExplanationShape(BaseModel):
    job_id: str
    status: JobState
    summary: str = Field(description="in one sentence")
    position: int | None = Field(description="in its queue, 1 is the next; null when it is in none")
    held_by: HoldShape | None = Field(description="what it waits for; null when it runs or has ended")
    expected_start_at: str | None = Field(description="of a started job: when it did")
    expected_end_at: str | None = Field(description="of an ended job: when it did")
    deadline_at: str | None = Field(description="a job that still waits then fails")
    routing: RoutingShape
    attempts: list[AttemptShape] = Field(description="those that began")

    @classmethod
    def of(cls, job: Job, explained: Explanation) -> "ExplanationShape":
        hold = explained.hold
        return cls(
            job_id=job.id,
            status=job.state,
            summary=explained.summary,
            position=explained.position,
            held_by=None if hold is None else HoldShape(code=hold.code, message=hold.message, until=_iso(hold.until)),
            expected_start_at=_iso(explained.expected_start_at),
            expected_end_at=_iso(explained.expected_end_at),
            deadline_at=_iso(job.deadline_at),
            routing=RoutingShape(
                rule=explained.rule,
                candidates=[CandidateShape(**each) for each in explained.candidates],
                skipped=[SkippedShape(**each) for each in explained.skipped],
            ),
            attempts=[AttemptShape.of(record) for record in explained.attempts],
        )


@routes.get("/{job_id}/explain", response_model=Success[ExplanationShape])
async def explain_job(request: Request, job_id: str, parts: WithParts, reach: WithReach) -> Response:
    """Why the job is where it is: its position, what holds it, when it should start and end, and what was decided."""
    job = await existing(parts, job_id, reach)
    return success(request, ExplanationShape.of(job, explain(await _facts(parts, job))))


# ---- what is known ----


async def _facts(parts: Parts, job: Job) -> Facts:
    facts = Facts(
        job=job,
        now=time.time(),
        events=await parts.store.turning_points(job.id),
        route=_route(parts, job),
        place=await parts.store.place(job.id),
    )
    if job.state in TERMINAL:
        return facts
    dispatch = _dispatch(parts.runner.attempt(job.id))
    facts = replace(facts, dispatch=dispatch, given_back=parts.runner.given_back(job.id))
    where = _where(facts.route, dispatch)
    if where is None:
        return facts
    status = _status(parts, *where)
    return replace(
        facts,
        room=parts.runner.room(job.lane),
        estimate=await _estimate(parts, job, *where),
        max_batch=status.max_batch if status is not None else 1,
        busy=_busy(status) if status is not None else "",
    )


def _dispatch(attempt: Attempt | None) -> Dispatch | None:
    if attempt is None:
        return None
    place = attempt.place
    return Dispatch(
        provider_id=None if place is None else place.provider_id,
        model=None if place is None else place.model,
        position=attempt.position,
        has_started=attempt.has_started,
        began_at=attempt.began_at,
    )


def _route(parts: Parts, job: Job) -> Route | FabricError:
    try:
        return order(routing_request(job), parts.providers.snapshots(job.request.organization_id))
    except FabricError as error:
        return error


def _where(route: Route | FabricError, dispatch: Dispatch | None) -> tuple[ProviderId, ModelId] | None:
    """Where it is, or would go first."""
    if dispatch is not None and dispatch.provider_id is not None and dispatch.model is not None:
        return ProviderId(dispatch.provider_id), ModelId(dispatch.model)
    return None if isinstance(route, FabricError) else (route.candidates[0].provider_id, route.candidates[0].model)


def _status(parts: Parts, provider_id: ProviderId, model: ModelId) -> ModelStatus | None:
    node = parts.providers.get(provider_id).snapshot().node
    return next((each for each in node.models if each.model.id == model), None) if node is not None else None


def _busy(status: ModelStatus) -> str:
    return (
        f"{status.model.id} has {status.running} of {status.max_batch} seats taken, {status.waiting} tasks wait, "
        f"its last step served {status.last_batch}"
    )


async def _estimate(parts: Parts, job: Job, provider_id: ProviderId, model: ModelId) -> Estimate | None:
    """None: the place cannot say, or not in time."""
    try:
        async with asyncio.timeout(ESTIMATE_S):
            return await parts.providers.get(provider_id).estimate(replace(task_of(job), model=model))
    except (FabricError, TimeoutError):
        return None


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)
