"""/v1/providers/execute and /execute/stream: a request served at once, not durable, cancelled when its caller goes.

What is wrong with the request is the answer itself: 400, 404 or 503, no job that fails later.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import assert_never

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from protos.errors import FabricError, Internal
from protos.types import Finished, OrganizationId, Preview, Progress, Queued, SegmentDelta, Started, TextDelta
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts, while_connected
from router.api.envelope import Success, success
from router.api.providers import DirectBody
from router.api.sse import DOCUMENTED, HEARTBEAT, EventStream, event_text
from router.jobs import Json
from router.outputs import preview_json
from router.routing import Candidate, order
from router.serving import Served, serve
from router.tasks import output_of, segment_json, usage_json

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class ExecuteShape(BaseModel):
    provider_id: str
    model: str
    modality: str
    output: Json
    usage: Json


@routes.post("/execute", response_model=Success[ExecuteShape], dependencies=[JSON_BODY])
async def execute(request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization) -> Response:
    """Answers with the result. Closing the connection cancels it."""
    served = _served(parts, body, organization_id)
    return success(request, await while_connected(request, _result(body, served)))


@routes.post("/execute/stream", dependencies=[JSON_BODY], responses=DOCUMENTED, response_class=Response)
async def execute_stream(
    request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization
) -> Response:
    """The same as events: started, output (text to append, or a segment), progress, then completed, with the result,
    or failed, with the error. Closing the connection cancels it."""
    served = _served(parts, body, organization_id)
    first = await while_connected(request, _first(served))  # what refuses it does so before: a status, not an event
    return EventStream(_stream(body, first, served), parts.closing)


# ---- running it ----


def _served(parts: Parts, body: DirectBody, organization_id: OrganizationId) -> AsyncGenerator[Served, None]:
    """Raises what refuses the request before any place is asked."""
    task = body.task(parts.settings, organization_id)
    return serve(parts.providers, order(body.routing(), parts.providers.snapshots()).candidates, task)


async def _first(events: AsyncGenerator[Served, None]) -> Served:
    return await anext(events)


async def _result(body: DirectBody, served: AsyncGenerator[Served, None]) -> ExecuteShape:
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


async def _stream(body: DirectBody, first: Served, rest: AsyncGenerator[Served, None]) -> AsyncGenerator[bytes, None]:
    yield _event_text(body, first)
    async with aclosing(rest) as events:
        try:
            async for served in events:
                yield _event_text(body, served)
        except FabricError as error:
            yield event_text("failed", {"code": error.code, "message": error.message, "details": error.details})


def _event_text(body: DirectBody, served: Served) -> bytes:
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
        case Preview():
            return event_text("output", {"preview": preview_json(served.event)})
        case Finished():
            return event_text("completed", _shape(body, served.by, served.event).model_dump(mode="json"))
        case _:
            assert_never(served.event)
