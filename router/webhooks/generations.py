"""The body of a FairStack webhook: generation.completed or generation.failed. Pure.

Source: the "Webhooks" section of that API's jobs page. Not about its signature (messages.py).
"""

from datetime import UTC, datetime

from router.fairstack import sanitized, status_of
from router.jobs import Job, JobEvent, JobState, Json
from router.webhooks.messages import fairstack_kind


def generation_event(event: JobEvent, job: Job, cost_micro: int) -> Json:
    """`event`: the job's last one."""
    return {
        "event": fairstack_kind(event.kind),
        "data": {
            "id": job.id,
            "type": job.request.modality.value,
            "status": status_of(job),
            "model": job.model,
            "output": _output(job),
            "cost": {"cost_micro": cost_micro, "cost_usd": cost_micro / 1_000_000, "currency": "USD"},
            "error": sanitized(job.error) if job.state is JobState.FAILED else None,
            "created_at": _iso(job.created_at),
            "completed_at": None if job.completed_at is None else _iso(job.completed_at),
        },
        "created_at": _iso(event.timestamp),
    }


def _output(job: Job) -> Json | None:
    """Flat, as that API has it: the first picture stands for all, whose URLs are in `images`."""
    if job.output is None:
        return None
    images = job.output.get("images") or []
    first = images[0] if images else {}
    return {
        **job.output,
        "url": first.get("url"),
        "width": first.get("width"),
        "height": first.get("height"),
        "duration_sec": job.output.get("duration_s"),
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
