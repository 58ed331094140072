"""/v1/jobs: create, list, get, usage, cancel.

A job is refused before it is stored when it can be known never to run: a wrong field (router/tasks.py), or a model that
no known place has (router/api/placement.py). What only the node can tell, such as a prompt longer than the context, takes
its tokenizer: such a job is stored and fails with the node's own error. /v1/providers/execute answers both at once.

A list, a single job and its events are the caller's organization's; another's job is 404.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from ulid import ULID

from protos.errors import FabricError, InputInvalid
from protos.types import Modality, OrganizationId, Tier
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts, WithPrincipal, WithReach
from router.api.envelope import Success, success
from router.api.job_shapes import JobBody, JobPage, JobShape
from router.api.job_usage import JobUsage
from router.api.placement import check_servable, checked_request
from router.api.quickly import KEY_CHARS
from router.jobs import Job, JobId, JobRequest, JobState, new_job, unknown_job
from router.principals import Principal
from router.routing import RoutingRequest
from router.spending import micro_of
from router.store import usage
from router.store.base import JobFilter
from router.webhooks.messages import Dialect

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_REPEATED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Success[JobShape], "description": "the idempotency key stands for this job already"}
}


@routes.post("", dependencies=[JSON_BODY], status_code=202, response_model=Success[JobShape], responses=_REPEATED)
async def create_job(
    *,
    request: Request,
    body: JobBody,
    parts: WithParts,
    principal: WithPrincipal,
    organization_id: WithOrganization,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=KEY_CHARS)] = None,
) -> Response:
    """Stores a job; it is durable when this answers. A repeated idempotency key gives the original job and 200."""
    asked = body.request(parts.settings, principal, organization_id, idempotency_key)
    job, is_new = await submitted(parts, principal, asked, Dialect.FABRIC)
    return success(request, JobShape.of(job), 202 if is_new else 200, {"location": f"/v1/jobs/{job.id}"})


@routes.get("", response_model=Success[JobPage])
async def list_jobs(
    *,
    request: Request,
    parts: WithParts,
    organization_id: WithOrganization,
    status: JobState | None = None,
    modality: Modality | None = None,
    tier: Tier | None = None,
    model: str | None = None,
    since: Annotated[
        datetime | None, Query(description="created at or after; ISO 8601, UTC if it does not say")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="of the page before")] = None,
) -> Response:
    """Newest first. Following the cursors shows each job once, also while new ones arrive."""
    found = await parts.store.list_jobs(
        JobFilter(
            organization_id=organization_id,
            status=status,
            modality=modality,
            tier=tier,
            model=model,
            since=_timestamp(since),
            before=before(cursor),
            limit=limit + 1,  # one more tells whether there is another page
        )
    )
    shown, has_more = found[:limit], len(found) > limit
    page = JobPage(
        jobs=[JobShape.of(job) for job in shown], has_more=has_more, cursor=shown[-1].id if has_more else None
    )
    return success(request, page)


@routes.get("/{job_id}", response_model=Success[JobShape])
async def get_job(request: Request, job_id: str, parts: WithParts, reach: WithReach) -> Response:
    job = await existing(parts, job_id, reach)
    return success(request, JobShape.of(await parts.attachments.whole(job)))


@routes.get("/{job_id}/usage", response_model=Success[JobUsage])
async def get_job_usage(request: Request, job_id: str, parts: WithParts, reach: WithReach) -> Response:
    """What it used and cost, beside what was expected, attempt by attempt."""
    job = await existing(parts, job_id, reach)
    records = await parts.store.look(lambda connection: usage.of_job(connection, job.id))
    return success(request, JobUsage.of(job, records))


@routes.post("/{job_id}/cancel", response_model=Success[JobShape])
async def cancel_job(request: Request, job_id: str, parts: WithParts, reach: WithReach) -> Response:
    """Ends the job, also while it runs. 409 job_terminal when it has ended already."""
    job = await existing(parts, job_id, reach)
    return success(request, JobShape.of(await parts.runner.cancel(job.id)))


async def submitted(parts: Parts, principal: Principal, asked: JobRequest, dialect: Dialect) -> tuple[Job, bool]:
    """The job, durable, and whether it is new. `dialect`: of the call to its webhook_url. Raises what refuses it."""
    _check(asked, parts)
    if asked.webhook_url is not None:
        hook = await parts.webhooks.expect(asked.organization_id, asked.webhook_url, dialect)
        asked = replace(asked, webhook_url=hook)
    asked, attached = await parts.attachments.keep(asked)
    parts.runner.wake()
    try:
        job, is_new = await parts.store.create(
            new_job(asked, time.time()), parts.settings.waiting_limit, principal.max_concurrent_jobs
        )
    except FabricError:
        await parts.attachments.drop(attached)
        raise
    if not is_new:
        await parts.attachments.drop(attached)
    return job, is_new


async def existing(parts: Parts, job_id: str, reach: OrganizationId | None) -> Job:
    """Raises NotFound, also for a job out of reach."""
    job = await parts.store.get(JobId(job_id))
    if job is None or reach not in (None, job.request.organization_id):
        raise unknown_job(job_id)
    return job


def _check(asked: JobRequest, parts: Parts) -> None:
    """Raises InputInvalid, ModelNotFound, NeverServed."""
    routing = RoutingRequest(
        modality=asked.modality,
        model=asked.model,
        tier=asked.tier,
        privacy=asked.privacy,
        content=checked_request(asked.modality, asked.input, asked.params, parts.settings),
        max_cost_micro=None if asked.max_cost_usd is None else micro_of(asked.max_cost_usd),
    )
    check_servable(routing, parts.providers.snapshots(asked.organization_id))


def _timestamp(since: datetime | None) -> float | None:
    if since is None:
        return None
    return (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()


def before(cursor: str | None) -> JobId | None:
    if cursor is None:
        return None
    try:
        ULID.from_str(cursor.removeprefix("job_"))
    except ValueError:
        raise InputInvalid.at("cursor", f"is {cursor[:80]!r}: use the cursor of the page before") from None
    return JobId(cursor)
