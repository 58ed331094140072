"""/v1/providers/execute and /execute/stream: a request served at once, not durable, cancelled when its caller goes.

What is wrong with the request is the answer itself: 400, 404 or 503, no job that fails later.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from protos.errors import FabricError, Internal
from protos.types import Finished, OrganizationId, Preview, Progress, Queued, SegmentDelta, Started, TaskId, TextDelta
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts, WithPrincipal, while_connected
from router.api.envelope import Success, success
from router.api.providers import DirectBody
from router.api.sse import DOCUMENTED, HEARTBEAT, EventStream, event_text
from router.candidates import Candidate
from router.decisions import Asker
from router.ids import ulid
from router.jobs import Json
from router.outputs import preview_json
from router.routing import Route, RoutingRequest
from router.serving import Served, serve_once
from router.subtitles import with_subtitles
from router.tasks import delta_json, segment_json, usage_json

routes = APIRouter(prefix="/v1/providers", tags=["providers"])


class ExecuteShape(BaseModel):
    provider_id: str
    model: str
    modality: str
    output: Json
    usage: Json


@routes.post("/execute", dependencies=[JSON_BODY], response_model=Success[ExecuteShape])
async def execute(
    request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization, principal: WithPrincipal
) -> Response:
    """Answers with the result. Closing the connection cancels it."""
    call = _Call(parts, body, organization_id, principal.key_id)
    return success(request, await while_connected(request, call.result()))


@routes.post("/execute/stream", dependencies=[JSON_BODY], responses=DOCUMENTED, response_class=Response)
async def execute_stream(
    request: Request, body: DirectBody, parts: WithParts, organization_id: WithOrganization, principal: WithPrincipal
) -> Response:
    """The same as events: started, output (text to append, or a segment), progress, then completed, with the result,
    or failed, with the error. Closing the connection cancels it."""
    call = _Call(parts, body, organization_id, principal.key_id)
    # What refuses it does so before: a status, not an event.
    first, rest = await while_connected(request, call.begin())
    return EventStream(call.texts(first, rest), parts.closing, patience_s=parts.settings.reader_patience_s)


@dataclass(frozen=True, slots=True)
class _Call:
    """One such request, on its way."""

    parts: Parts
    body: DirectBody
    organization_id: OrganizationId
    key_id: str | None
    id: TaskId = field(default_factory=lambda: TaskId(f"task_{ulid(time.time())}"))

    async def begin(self) -> tuple[Served, AsyncGenerator[Served, None]]:
        """The first event and the rest. Raises what refuses the request."""
        served = await self._served()
        return await anext(served), served

    async def result(self) -> ExecuteShape:
        async with aclosing(await self._served()) as events:
            async for each in events:
                if isinstance(each.event, Finished):
                    return await self._shape(each.by, each.event)
        raise Internal("a provider ended without a result: this is a bug")

    async def texts(self, first: Served, rest: AsyncGenerator[Served, None]) -> AsyncGenerator[bytes, None]:
        """Its events, as they are sent."""
        yield await self._text(first)
        async with aclosing(rest) as events:
            try:
                async for served in events:
                    yield await self._text(served)
            except FabricError as error:
                yield event_text("failed", {"code": error.code, "message": error.message, "details": error.details})

    async def _served(self) -> AsyncGenerator[Served, None]:
        """Raises what refuses the request before any place is asked."""
        providers, asked = self.parts.providers, self.body.routing()
        route = self._routed(asked)  # also before a file is fetched for nobody
        task = replace(await self.body.task(self.parts, self.organization_id), id=self.id)
        if route.depends_on_content:
            route = self._routed(replace(asked, content=task.request))
        return serve_once(providers, route.candidates, task, self.parts.accounts, self.key_id)

    def _routed(self, asked: RoutingRequest) -> Route:
        parts = self.parts
        asker = Asker(organization_id=self.organization_id, key_id=self.key_id, resource_id=self.id, is_job=False)
        return parts.accounts.decisions.route(asked, parts.providers.snapshots(self.organization_id), asker)

    async def _text(self, served: Served) -> bytes:
        if isinstance(served.event, Finished):
            return event_text("completed", (await self._shape(served.by, served.event)).model_dump(mode="json"))
        return _event_text(self.body, served.by, served.event)

    async def _shape(self, by: Candidate, finished: Finished) -> ExecuteShape:
        output = await self.parts.attachments.output(self.organization_id, finished.result)
        return ExecuteShape(
            provider_id=by.provider_id,
            model=by.model,
            modality=self.body.modality,
            output=with_subtitles(output, finished.result, self.body.params),
            usage=usage_json(finished.usage),
        )


_Meanwhile: TypeAlias = Queued | Started | Progress | TextDelta | SegmentDelta | Preview


def _event_text(body: DirectBody, by: Candidate, event: _Meanwhile) -> bytes:
    match event:
        case Queued():
            return HEARTBEAT
        case Started():
            shown = {"provider_id": by.provider_id, "model": by.model, "modality": body.modality}
            return event_text("started", shown)
        case Progress(fraction, step, steps):
            return event_text("progress", {"progress": fraction, "step": step, "steps": steps})
        case TextDelta():
            return event_text("output", delta_json(event))
        case SegmentDelta(segment):
            return event_text("output", {"segment": segment_json(segment)})
        case Preview():
            return event_text("output", {"preview": preview_json(event)})
        case _:
            assert_never(event)
