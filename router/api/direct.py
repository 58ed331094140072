"""/v1/providers/execute and /execute/stream: a request served at once, not durable, cancelled when its caller goes.

What is wrong with the request is the answer itself: 400, 404 or 503, no job that fails later.
"""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import assert_never, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from protos.errors import FabricError, Internal
from protos.types import Finished, Preview, Progress, Queued, SegmentDelta, Started, Task, TaskEvent, TextDelta
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts, while_connected
from router.api.envelope import Success, success
from router.api.providers import DirectBody
from router.api.sse import DOCUMENTED, HEARTBEAT, EventStream, event_text
from router.jobs import Json
from router.routing import Candidate, RoutingRequest, order
from router.tasks import output_of, segment_json, usage_json

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class ExecuteShape(BaseModel):
    provider_id: str
    model: str
    modality: str
    output: Json
    usage: Json


@dataclass(frozen=True, slots=True)
class _Served:
    """An event and who sent it."""

    by: Candidate
    event: TaskEvent


@routes.post("/execute", response_model=Success[ExecuteShape], dependencies=[JSON_BODY])
async def execute(request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization) -> Response:
    """Answers with the result. Closing the connection cancels it."""
    served = _serve(parts, body.routing(), body.task(parts.settings, organization_id))
    return success(request, await while_connected(request, _result(body, served)))


@routes.post("/execute/stream", dependencies=[JSON_BODY], responses=DOCUMENTED, response_class=Response)
async def execute_stream(
    request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization
) -> Response:
    """The same as events: started, output (text to append, or a segment), progress, then completed, with the result,
    or failed, with the error. Closing the connection cancels it."""
    served = _serve(parts, body.routing(), body.task(parts.settings, organization_id))
    first = await while_connected(request, _first(served))  # what refuses it does so before: a status, not an event
    return EventStream(_stream(body, first, served), parts.closing)


# ---- running it ----


async def _serve(parts: Parts, routing: RoutingRequest, task: Task) -> AsyncGenerator[_Served, None]:
    """The events at the best place; at the next one when it refuses what may succeed elsewhere. Raises the last error."""
    *others, last = order(routing, parts.providers.snapshots()).candidates
    for candidate in others:
        has_started = False
        try:
            async with aclosing(_serve_at(parts, candidate, task)) as events:
                async for served in events:
                    has_started = has_started or isinstance(served.event, Started)
                    yield served
        except FabricError as error:
            if has_started or not error.retryable:
                raise
        else:
            return
    async with aclosing(_serve_at(parts, last, task)) as events:
        async for served in events:
            yield served


async def _serve_at(parts: Parts, candidate: Candidate, task: Task) -> AsyncGenerator[_Served, None]:
    run = parts.providers.get(candidate.provider_id).run(replace(task, model=candidate.model))
    async with aclosing(cast(AsyncGenerator[TaskEvent, None], run)) as events:
        async for event in events:
            yield _Served(candidate, event)


async def _first(events: AsyncGenerator[_Served, None]) -> _Served:
    return await anext(events)


async def _result(body: DirectBody, served: AsyncGenerator[_Served, None]) -> ExecuteShape:
    async with aclosing(served) as events:
        async for each in events:
            if isinstance(each.event, Finished):
                return _shape(body, each.by, each.event)
    raise Internal("a provider ended without a result: this is a bug")


def _shape(body: DirectBody, by: Candidate, finished: Finished) -> ExecuteShape:
    return ExecuteShape(
        provider_id=by.provider_id,
        model=by.model,
        modality=body.modality,
        output=output_of(finished.result),
        usage=usage_json(finished.usage),
    )


# ---- its events as text ----


async def _stream(body: DirectBody, first: _Served, rest: AsyncGenerator[_Served, None]) -> AsyncGenerator[bytes, None]:
    yield _event_text(body, first)
    async with aclosing(rest) as events:
        try:
            async for served in events:
                yield _event_text(body, served)
        except FabricError as error:
            yield event_text("failed", {"code": error.code, "message": error.message, "details": error.details})


def _event_text(body: DirectBody, served: _Served) -> bytes:
    match served.event:
        case Queued():
            return HEARTBEAT
        case Started():
            shown = {"provider_id": served.by.provider_id, "model": served.by.model, "modality": body.modality}
            return event_text("started", shown)
        case Progress(fraction, step, steps):
            return event_text("progress", {"progress": fraction, "step": step, "steps": steps})
        case TextDelta(text):
            return event_text("output", {"text": text})
        case SegmentDelta(segment):
            return event_text("output", {"segment": segment_json(segment)})
        case Preview(index, data, content_type):
            preview = {"index": index, "data": base64.b64encode(data).decode(), "content_type": content_type}
            return event_text("output", {"preview": preview})
        case Finished():
            return event_text("completed", _shape(body, served.by, served.event).model_dump(mode="json"))
        case _:
            assert_never(served.event)
