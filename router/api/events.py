"""Event streams: of a job, of a run (the same), and of an organization.

Resumed by Last-Event-ID or ?after=: a job's stream counts its own events, an organization's stream its positions.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Final, TypeAlias, cast

from fastapi import APIRouter, Depends, Header, Query, Response

from protos.errors import InputInvalid
from protos.types import OrganizationId
from router.api.context import Parts, WithOrganization, WithParts, WithReach
from router.api.job_shapes import iso
from router.api.jobs import existing
from router.api.sse import DOCUMENTED, HEARTBEAT, EventStream, event_text
from router.events import LiveOutput
from router.jobs import EventKind, Job, JobEvent, Json

# What the feed's iterators are: they are closed as soon as a reader goes.
_OfJob: TypeAlias = AsyncGenerator[JobEvent | LiveOutput | None, None]
_OfOrganization: TypeAlias = AsyncGenerator[Sequence[JobEvent], None]
_ID_DIGITS: Final = 18  # fits the database's integers


async def _accept_internal(
    include_internal: Annotated[bool, Query(description="accepted; there are no internal events here")] = False,
) -> None:
    """The official client sends it."""


routes = APIRouter(
    prefix="/v1",
    tags=["events"],
    responses=DOCUMENTED,
    default_response_class=Response,
    dependencies=[Depends(_accept_internal)],
)


async def _after(
    after: Annotated[str | None, Query(description="the id of the last event seen")] = None,
    last_event_id: Annotated[str | None, Header(description="the same, as browsers send it; it wins")] = None,
) -> int | None:
    name, given = ("Last-Event-ID", last_event_id) if last_event_id else ("after", after)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= _ID_DIGITS):
        raise InputInvalid.at(name, f"is {given[:40]!r}: use the id of an event of this stream")
    return int(given)


WithAfter = Annotated[int | None, Depends(_after)]
WithOutput = Annotated[bool, Query(description="also text as it is made: job.output events, without an id")]


@routes.get("/jobs/{job_id}/events")
async def job_events(
    job_id: str,
    parts: WithParts,
    reach: WithReach,
    after: WithAfter,
    include_output: WithOutput = False,
) -> Response:
    """Every event of the job, the stored ones first, then live; ends after the last."""
    job = await existing(parts, job_id, reach)  # before the answer begins: a stream cannot become a 404
    return EventStream(
        _of_job(parts, job, after or 0, include_output), parts.closing, patience_s=parts.settings.reader_patience_s
    )


@routes.get("/workflow-runs/{run_id}/events")
async def run_events(
    run_id: str,
    parts: WithParts,
    reach: WithReach,
    after: WithAfter,
    include_output: WithOutput = False,
) -> Response:
    """The events of the run's one job."""
    return await job_events("job_" + run_id.removeprefix("run_"), parts, reach, after, include_output)


@routes.get("/events/stream")
async def organization_events(parts: WithParts, organization_id: WithOrganization, after: WithAfter) -> Response:
    """Every event of the organization from now on, or after the given one; without end."""
    if after is None:
        after = await parts.store.last_position(organization_id)  # now: what is stored from here on is in the stream
    return EventStream(
        _of_organization(parts, organization_id, after), parts.closing, patience_s=parts.settings.reader_patience_s
    )


async def _of_job(parts: Parts, job: Job, after: int, include_output: bool) -> AsyncGenerator[bytes, None]:
    yield HEARTBEAT  # a reader knows at once that it is connected
    async with aclosing(cast(_OfJob, parts.feed.follow_job(job.id, after, include_output=include_output))) as followed:
        async for event in followed:
            match event:
                case None:
                    yield HEARTBEAT
                case LiveOutput():
                    yield event_text(EventKind.OUTPUT, _output_data(job, event))
                case JobEvent():
                    yield _stored(event, event.seq)


async def _of_organization(parts: Parts, organization_id: OrganizationId, after: int) -> AsyncGenerator[bytes, None]:
    yield HEARTBEAT
    async with aclosing(cast(_OfOrganization, parts.feed.follow_organization(organization_id, after))) as followed:
        async for events in followed:
            yield b"".join(_stored(event, event.position) for event in events) or HEARTBEAT


def _stored(event: JobEvent, number: int) -> bytes:
    # The number is in the data too: the official client shows the data alone, and resumes from nothing else.
    return event_text(event.kind, {"id": str(number), **event_data(event)}, str(number))


def event_data(event: JobEvent) -> Json:
    """A stored event as clients get it, but for its id, which depends on the stream."""
    return {
        "kind": event.kind,
        "organization_id": event.organization_id,
        "job_id": event.job_id,
        "workflow_id": None,
        "run_id": "run_" + event.job_id.removeprefix("job_"),
        "node_key": event.node_id,
        "payload": event.payload,
        "timestamp": iso(event.timestamp),
    }


def _output_data(job: Job, output: LiveOutput) -> Json:
    return {
        "id": "",  # not stored: nothing to resume from
        "kind": EventKind.OUTPUT,
        "organization_id": job.request.organization_id,
        "job_id": job.id,
        "workflow_id": None,
        "run_id": job.run_id,
        "node_key": None,
        "payload": output.piece,
        "timestamp": iso(time.time()),
    }
