"""The body of a FairStack webhook, as that API's page prints it."""

from dataclasses import replace

from scripted import a_job

from protos.types import Modality
from router.jobs import TERMINAL_KIND, Job, JobEvent, JobState
from router.webhooks.generations import generation_event

IMAGE = {"asset_id": "ast_1", "url": "http://box/a.png", "width": 64, "height": 32, "seed": 1}


def ended(state: JobState, **fields: object) -> tuple[JobEvent, Job]:
    job = a_job(modality=Modality.IMAGE, input={"prompt": "x"})
    job = replace(job, state=state, completed_at=job.created_at + 42, model="sd", **fields)  # type: ignore[arg-type]
    event = JobEvent(
        job_id=job.id,
        organization_id=job.request.organization_id,
        seq=3,
        position=3,
        kind=TERMINAL_KIND[state],
        payload={},
        timestamp=job.created_at + 42,
    )
    return event, job


def test_a_completed_generation_is_told_whole() -> None:
    event, job = ended(JobState.COMPLETED, output={"images": [IMAGE]})
    told = generation_event(event, job, 48_000)
    assert told["event"] == "generation.completed"
    data = told["data"]
    assert data["id"] == job.id
    assert (data["type"], data["status"], data["model"], data["error"]) == ("image", "succeeded", "sd", None)
    assert data["cost"] == {"cost_micro": 48_000, "cost_usd": 0.048, "currency": "USD"}
    shown = {name: data["output"][name] for name in ("url", "width", "height", "duration_sec")}
    assert shown == {"url": "http://box/a.png", "width": 64, "height": 32, "duration_sec": None}
    assert data["completed_at"] == told["created_at"]


def test_a_failed_generation_tells_nothing_of_the_inside() -> None:
    error = {"code": "internal", "message": "node 10.0.0.7 broke"}
    told = generation_event(*ended(JobState.FAILED, error=error), 0)
    assert (told["event"], told["data"]["status"], told["data"]["output"]) == ("generation.failed", "failed", None)
    assert "10.0.0.7" not in told["data"]["error"]


def test_a_cancelled_generation_is_told_too_so_that_nobody_waits_for_it() -> None:
    told = generation_event(*ended(JobState.CANCELLED), 0)
    assert (told["event"], told["data"]["status"], told["data"]["error"]) == ("generation.failed", "cancelled", None)
