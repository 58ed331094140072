"""/fairstack/v1: the same jobs in the FairStack dialect, flat, with its states and its errors. A thin adapter.

Not about what is what in it (router/fairstack.py).
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from protos.errors import HTTP_STATUS, FabricError
from protos.types import Modality
from router.api.context import JSON_BODY, Parts, WithOrganization, WithParts, WithPrincipal, WithReach, belongs
from router.api.envelope import failure_headers, request_id_of, translated
from router.api.estimate import EstimateShape, estimated
from router.api.job_shapes import Input, JobBody, Name, iso
from router.api.jobs import before, existing, submitted
from router.api.providers import DirectBody
from router.fairstack import Status, asset_of, input_and_params, is_asked, result_of, sanitized, state_of, status_of
from router.jobs import TERMINAL, Job, JobState, Json
from router.store import usage
from router.store.base import JobFilter
from router.webhooks.messages import Dialect

_TAGS: Final = "fairstack_tags"  # where a job's metadata has them


class FlatError(BaseModel):
    """Every error of these routes."""

    error: str = Field(description="what was wrong, and what to do")
    code: str
    request_id: str
    errors: list[dict[str, str]] | None = Field(default=None, description="of a bad input: [{path, message}]")


ERRORS: Final[dict[int | str, dict[str, Any]]] = {  # Any: an OpenAPI fragment
    "default": {"model": FlatError, "description": "Any error: `code` says which, `error` what to do"}
}


class FlatRoute(APIRoute):
    """A route whose errors are flat."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except (FabricError, RequestValidationError, HTTPException) as error:
                return failure(translated(request, error), request_id_of(request))

        return handled


def failure(error: FabricError, request_id: str) -> JSONResponse:
    body: Json = {"error": error.message, "code": error.code, "request_id": request_id}
    if "errors" in error.details:
        body["errors"] = error.details["errors"]
    return JSONResponse(body, HTTP_STATUS[error.code], dict(failure_headers(error)))


routes = APIRouter(prefix="/fairstack/v1", tags=["fairstack"], route_class=FlatRoute, responses=ERRORS)


# ---- shapes ----


class Tag(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: Name
    value: Annotated[str, Field(max_length=200)]


class GenerationBody(BaseModel):
    """What to generate. All else in the body is of the modality: its other inputs and its params."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"model": "echo", "prompt": "Hello there"}]}
    )

    model: Name | None = None
    prompt: str | None = None
    input: str | list[str] | Input | None = Field(
        default=None, description="instead of a prompt; or an object as of a job"
    )
    webhook_url: Annotated[str, Field(max_length=2000)] | None = None
    confirm: bool = Field(default=True, description="false: an estimate alone")
    tags: list[Tag] = Field(default_factory=list, max_length=50)

    def of_modality(self, modality: Modality) -> tuple[Json, Json]:
        """Its input and its params, as a job has them."""
        named = {"prompt": self.prompt, "input": self.input}
        return input_and_params(modality, {k: v for k, v in named.items() if v is not None} | (self.model_extra or {}))


class Result(BaseModel):
    """Of an image: where the first is, and all of them. Of text, audio and embeddings: what a job's output has."""

    model_config = ConfigDict(extra="allow")

    url: str | None
    duration_sec: float | None
    width: int | None
    height: int | None
    cost: float = Field(description="USD")
    cost_micro: int = Field(description="1 USD is 1,000,000")
    currency: str


class GenerationShape(BaseModel):
    """A job in this dialect. What does not apply yet is not there."""

    job_id: str
    status: Status
    model: str | None
    modality: Modality
    created_at: str
    completed_at: str | None = None
    result: Result | None = None
    asset_id: str | None = None
    tags: list[Tag] | None = None
    error: str | None = None


class GenerationPage(BaseModel):
    jobs: list[GenerationShape]
    has_more: bool
    cursor: str | None = Field(description="for the next page; null on the last one")


class GenerationEstimate(BaseModel):
    model: str
    modality: Modality
    available: bool
    cost: float | None = Field(description="USD; null: nobody has said")
    cost_micro: int | None
    currency: str
    estimated_sec: float | None = Field(description="until its end, were it sent now")

    @classmethod
    def of(cls, found: EstimateShape) -> "GenerationEstimate":
        return cls(
            model=found.model,
            modality=found.modality,
            available=found.available,
            cost=found.estimated_cost_usd,
            cost_micro=found.cost_micro,
            currency=found.currency,
            estimated_sec=found.eta.total_s,
        )


# ---- routes ----

_SUBMITTED: Final[dict[int | str, dict[str, Any]]] = {  # Any: an OpenAPI fragment
    200: {"model": GenerationEstimate | GenerationShape, "description": "an estimate, or the job of that key already"}
}


@routes.post(
    "/generations/{modality}",
    status_code=202,
    dependencies=[JSON_BODY],
    response_model=GenerationShape,
    responses=_SUBMITTED,
)
async def generate(
    *,
    modality: Modality,
    body: GenerationBody,
    parts: WithParts,
    principal: WithPrincipal,
    organization_id: WithOrganization,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Response:
    """Submits a generation; it is durable when this answers. With `confirm: false`: what it would cost."""
    input_, params = body.of_modality(modality)
    if not body.confirm:
        direct = DirectBody(modality=modality, input=input_, params=params, model=body.model)
        return _flat(GenerationEstimate.of(await estimated(parts, direct, organization_id)))
    job_body = JobBody(
        modality=modality,
        input=input_,
        params=params,
        model=body.model,
        webhook_url=body.webhook_url,
        metadata={_TAGS: [tag.model_dump() for tag in body.tags]} if body.tags else {},
    )
    asked = job_body.request(parts.settings, principal, organization_id, idempotency_key)
    job, is_new = await submitted(parts, principal, asked, Dialect.FAIRSTACK)
    return _flat(_summary(job), 202 if is_new else 200, location=f"/fairstack/v1/jobs/{job.id}")


@routes.get("/jobs", response_model=GenerationPage)
async def list_generations(
    *,
    parts: WithParts,
    organization_id: WithOrganization,
    status: Literal["queued", "running", "succeeded", "completed", "partial", "failed", "cancelled"] | None = None,
    modality: Modality | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="of the page before")] = None,
) -> Response:
    """Newest first. A page of `succeeded` or `partial` may have fewer than `limit` though there are more."""
    found = await parts.store.list_jobs(
        JobFilter(
            organization_id=organization_id,
            status=None if status is None else state_of(status),
            modality=modality,
            before=before(cursor),
            limit=limit + 1,  # one more tells whether there is another page
        )
    )
    seen, has_more = found[:limit], len(found) > limit
    shown = [_summary(job) for job in seen if status is None or is_asked(job, status)]
    return _flat(GenerationPage(jobs=shown, has_more=has_more, cursor=seen[-1].id if has_more else None))


@routes.get("/jobs/{job_id}", response_model=GenerationShape)
async def get_generation(job_id: str, parts: WithParts, reach: WithReach) -> Response:
    return _flat(await _whole(parts, await existing(parts, job_id, reach)))


@routes.post("/jobs/{job_id}/cancel", response_model=GenerationShape)
async def cancel_generation(request: Request, job_id: str, parts: WithParts, reach: WithReach) -> Response:
    """Ends the job, also while it runs. 409 when it has ended already."""
    job = await existing(parts, job_id, reach)
    belongs(request, job.request.organization_id)
    return _flat(await _whole(parts, await parts.runner.cancel(job.id)))


# ---- jobs as shapes ----


def _summary(job: Job) -> GenerationShape:
    return GenerationShape(
        job_id=job.id,
        status=status_of(job),
        model=job.model,
        modality=job.request.modality,
        created_at=iso(job.created_at),
    )


async def _whole(parts: Parts, job: Job) -> GenerationShape:
    if job.state not in TERMINAL:
        return _summary(job)
    told: Json = _summary(job).model_dump(exclude_unset=True) | {
        "completed_at": iso(job.completed_at or job.created_at)
    }
    if job.state is JobState.COMPLETED:
        records = await parts.store.look(lambda connection: usage.of_job(connection, job.id))
        result = result_of(job, sum(record.cost_micro for record in records))
        told |= {"result": result, "asset_id": asset_of(job), "tags": job.request.metadata.get(_TAGS, [])}
    if job.state is JobState.FAILED:
        told["error"] = sanitized(job.error)
    return GenerationShape.model_validate(told)


def _flat(shape: BaseModel, status: int = 200, location: str | None = None) -> JSONResponse:
    """The shape itself is the answer; what was not set is not in it."""
    headers = {"location": location} if location else None
    return JSONResponse(shape.model_dump(mode="json", exclude_unset=True), status, headers)
