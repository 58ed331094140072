"""Jobs and events to rows of the tables and back. Pure."""

import json
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Row

from protos.errors import InvalidRequest
from protos.types import Modality, OrganizationId, Tier, Usage
from router.jobs import EventKind, Job, JobEvent, JobId, JobRequest, JobState, Json

Columns = dict[str, Any]  # Any: a column's own type

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # json.dumps would make one each time


def encoded(value: object) -> str:
    """Compact JSON in ASCII, which every database takes, lone surrogates included. Raises InvalidRequest for NaN."""
    try:
        return _encode(value)
    except ValueError as exc:
        raise InvalidRequest(f"a number is not finite, which JSON cannot hold: {exc}") from exc


def encoded_or_none(value: object) -> str | None:
    return None if value is None else encoded(value)


def request_columns(request: JobRequest) -> Columns:
    """What of a job's row never changes."""
    return {
        "organization_id": request.organization_id,
        "key_id": request.key_id,
        "modality": request.modality.value,
        "tier": None if request.tier is None else request.tier.value,
        "request_model": request.model,
        "lane": request.lane,
        "priority": request.priority,
        "input": encoded(request.input),
        "params": encoded(request.params),
        "metadata": encoded(request.metadata),
        "idempotency_key": request.idempotency_key,
        "payload_hash": request.payload_hash,
        "webhook_url": request.webhook_url,
        "timeout_s": request.timeout_s,
        "deadline_s": request.deadline_s,
        "max_cost_usd": request.max_cost_usd,
        "privacy": request.privacy,
    }


def job_from(row: Row[Any]) -> Job:  # Any: a row of all columns of jobs
    return Job(
        id=JobId(row.id),
        request=_request_from(row),
        state=JobState(row.state),
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        attempts=row.attempts,
        provider_id=row.provider_id,
        node_id=row.node_id,
        model=row.model,
        output=_decoded_or_none(row.output),
        error=_decoded_or_none(row.error),
        usage=None if row.usage is None else Usage(**json.loads(row.usage)),
        progress=row.progress,
    )


def _request_from(row: Row[Any]) -> JobRequest:  # Any: a row of all columns of jobs
    return JobRequest(
        modality=Modality(row.modality),
        input=json.loads(row.input),
        params=json.loads(row.params),
        tier=None if row.tier is None else Tier(row.tier),
        model=row.request_model,
        organization_id=OrganizationId(row.organization_id),
        key_id=row.key_id,
        idempotency_key=row.idempotency_key,
        payload_hash=row.payload_hash,
        priority=row.priority,
        metadata=json.loads(row.metadata),
        webhook_url=row.webhook_url,
        timeout_s=row.timeout_s,
        deadline_s=row.deadline_s,
        max_cost_usd=row.max_cost_usd,
        privacy=row.privacy,
    )


def _decoded_or_none(text: str | None) -> Json | None:
    return None if text is None else json.loads(text)


def usage_column(usage: Usage | None) -> str | None:
    return None if usage is None else encoded(asdict(usage))


def event_columns(event: JobEvent) -> Columns:
    return {
        "job_id": event.job_id,
        "seq": event.seq,
        "organization_id": event.organization_id,
        "position": event.position,
        "kind": event.kind.value,
        "payload": encoded(event.payload),
        "timestamp": event.timestamp,
        "node_id": event.node_id,
    }


def event_from(row: Row[Any]) -> JobEvent:  # Any: a row of all columns of events
    return JobEvent(
        job_id=JobId(row.job_id),
        organization_id=OrganizationId(row.organization_id),
        seq=row.seq,
        position=row.position,
        kind=EventKind(row.kind),
        payload=json.loads(row.payload),
        timestamp=row.timestamp,
        node_id=row.node_id,
    )
