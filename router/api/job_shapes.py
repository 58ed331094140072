"""A job as clients send and get it. wire.md's Job: all keys always there, times ISO 8601 UTC.

Not about routes (jobs.py) nor about what input and params mean (router/tasks.py).
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, union_schema

from protos.errors import InputInvalid
from protos.types import DEFAULT_PRIORITY, Modality, Tier
from router.api.context import organization
from router.inputs import (
    AudioInput,
    AudioParams,
    EmbeddingInput,
    EmbeddingParams,
    ImageInput,
    ImageParams,
    TextInput,
    TextParams,
)
from router.jobs import Job, JobRequest, JobState, Json
from router.principals import Principal
from router.settings import RouterSettings
from router.tasks import usage_json

Name = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600, strict=True, allow_inf_nan=False)]


# Clients in typed languages send every field, absent ones as null.
_NULL_IS_EMPTY: Final = BeforeValidator(lambda value: {} if value is None else value)


@dataclass(frozen=True, slots=True)
class DocumentedAs:
    """Shows a field as one of these models in the OpenAPI document. What reads the field knows which (router/tasks.py)."""

    models: tuple[type[BaseModel], ...]

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(union_schema([model.__pydantic_core_schema__ for model in self.models]))


Input = Annotated[dict[str, Any], DocumentedAs((TextInput, ImageInput, AudioInput, EmbeddingInput))]  # Any: JSON
Params = Annotated[  # Any: JSON
    dict[str, Any], _NULL_IS_EMPTY, DocumentedAs((TextParams, ImageParams, AudioParams, EmbeddingParams))
]
Metadata = Annotated[dict[str, Any], _NULL_IS_EMPTY]  # Any: JSON


class JobBody(BaseModel):
    """A job to do. `input` and `params` are those of the modality."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"modality": "text", "input": {"prompt": "What is 3 plus 4?"}, "params": {"temperature": 0}}]
        },
    )

    modality: Modality
    input: Input = Field(description="of the modality")
    params: Params = Field(default_factory=dict, description="of the modality")
    tier: Tier | None = Field(default=None, description="basic: local and free; premium: remote and paid")
    model: Name | None = Field(default=None, description="default: the modality's")
    organization_id: str | None = None
    idempotency_key: Name | None = Field(default=None, description="or the header Idempotency-Key")
    priority: Annotated[int, Field(ge=0, le=100, strict=True, description="higher first")] = DEFAULT_PRIORITY
    webhook_url: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="gets the job's last event: completed, failed or cancelled"
    )
    metadata: Metadata = Field(default_factory=dict)
    timeout_s: Seconds | None = None
    deadline_s: Seconds | None = Field(default=None, description="wished end, for routing")
    max_cost_usd: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | None = None
    privacy: Literal["any", "local_only"] = "any"

    def request(
        self, settings: RouterSettings, principal: Principal, organization_id: str | None, key: str | None
    ) -> JobRequest:
        """The job as the core knows it. The last two are the headers', for what the body leaves out. Raises InputInvalid,
        and Forbidden for another organization than the principal's."""
        if key and self.idempotency_key and key != self.idempotency_key:
            raise InputInvalid.at(
                "idempotency_key", f"is {self.idempotency_key!r}, the header Idempotency-Key is {key!r}: send one key"
            )
        metadata_bytes = len(canonical("metadata", self.metadata))
        if metadata_bytes > settings.metadata_bytes:
            raise InputInvalid.at("metadata", f"is {metadata_bytes} bytes as JSON: at most {settings.metadata_bytes}")
        return JobRequest(
            modality=self.modality,
            input=self.input,
            params=self.params,
            tier=self.tier,
            model=self.model,
            organization_id=organization(principal, self.organization_id or organization_id),
            key_id=principal.key_id,
            idempotency_key=self.idempotency_key or key,
            payload_hash=self._payload_hash(),
            priority=self.priority,
            metadata=self.metadata,
            webhook_url=self.webhook_url,
            timeout_s=self.timeout_s,
            deadline_s=self.deadline_s,
            max_cost_usd=self.max_cost_usd,
            privacy=self.privacy,
        )

    def _payload_hash(self) -> str:
        """The same for two bodies that ask for the same, whatever the order of their keys."""
        asked = self.model_dump(mode="json", exclude={"idempotency_key", "organization_id"})
        return hashlib.sha256(canonical("input", asked)).hexdigest()


def canonical(path: str, value: object) -> bytes:
    """The value as JSON text. Raises InputInvalid for what JSON cannot say, though Python's reader lets it in: NaN,
    Infinity, half of a surrogate pair."""
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # UnicodeEncodeError is one
        raise InputInvalid.at(path, f"is not JSON: {error}") from error


class JobError(BaseModel):
    code: str
    message: str


class JobShape(BaseModel):
    """A job as it is now."""

    id: str
    job_id: str
    workflow_run_id: str
    status: JobState
    modality: Modality
    tier: Tier | None
    model: str | None
    provider_id: str | None
    node_id: str | None
    input: Json
    params: Json
    output: Json | None
    error: JobError | None
    usage: Json
    attempts: int
    priority: int
    progress: float = Field(description="0 to 1")
    organization_id: str
    metadata: Json
    created_at: str
    started_at: str | None
    completed_at: str | None

    @classmethod
    def of(cls, job: Job) -> "JobShape":
        request = job.request
        return cls(
            id=job.id,
            job_id=job.id,
            workflow_run_id=job.run_id,
            status=job.state,
            modality=request.modality,
            tier=request.tier,
            model=job.model,
            provider_id=job.provider_id,
            node_id=job.node_id,
            input=request.input,
            params=request.params,
            output=job.output,
            error=JobError(**job.error) if job.error else None,
            usage=usage_json(job.usage) if job.usage else {},
            attempts=job.attempts,
            priority=request.priority,
            progress=job.progress,
            organization_id=request.organization_id,
            metadata=request.metadata,
            created_at=iso(job.created_at),
            started_at=iso(job.started_at) if job.started_at is not None else None,
            completed_at=iso(job.completed_at) if job.completed_at is not None else None,
        )


class JobPage(BaseModel):
    jobs: list[JobShape]
    has_more: bool
    cursor: str | None = Field(description="for the next page; null on the last one")


def iso(timestamp: float) -> str:
    """UTC seconds since the epoch as ISO 8601 with Z."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
