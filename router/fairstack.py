"""Jobs in the FairStack dialect: states, requests and results in its flat shape. Pure.

Source: that API's jobs page. What it has no words for is told in ours: `text` and `embeddings` in a result. A local
engine hands over the pictures of a job together, so `partial` is for places that answered with fewer than were asked:
a local job that fails has none. Not about routes (api/fairstack.py) nor webhooks (webhooks/generations.py).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from protos.errors import Code
from protos.types import Modality
from router.jobs import Job, JobState, Json


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATUS: Final[Mapping[JobState, Status]] = {
    JobState.PENDING: Status.QUEUED,
    JobState.STARTED: Status.RUNNING,
    JobState.COMPLETED: Status.SUCCEEDED,
    JobState.FAILED: Status.FAILED,
    JobState.CANCELLED: Status.CANCELLED,
}
_STATE: Final[Mapping[str, JobState]] = {
    **{status.value: state for state, status in _STATUS.items()},
    Status.PARTIAL.value: JobState.COMPLETED,
    "completed": JobState.COMPLETED,  # that API's own examples ask for it
}
STATUSES: Final = tuple(_STATE)  # that a list can be asked for


def status_of(job: Job) -> Status:
    is_short = job.request.modality is Modality.IMAGE and len(_images(job)) < int(job.request.params.get("n") or 1)
    return Status.PARTIAL if job.state is JobState.COMPLETED and is_short else _STATUS[job.state]


def state_of(status: str) -> JobState:
    """Whose jobs a list of that status is made of. `status` is one of STATUSES."""
    return _STATE[status]


def is_asked(job: Job, status: str) -> bool:
    """Whether the job is of the status: completed ones are, whole, `succeeded`, or `partial`."""
    return status == "completed" or status_of(job) == status


# ---- requests ----

_INPUT: Final[Mapping[Modality, tuple[str, ...]]] = {
    Modality.TEXT: ("prompt", "messages"),
    Modality.IMAGE: ("prompt", "negative_prompt", "image"),
    Modality.AUDIO: ("audio", "audio_url", "asset_id"),
    Modality.EMBEDDING: ("text", "texts", "input"),
}
_MAIN: Final[Mapping[Modality, str]] = {  # what a plain `input` or `prompt` is
    Modality.TEXT: "prompt",
    Modality.IMAGE: "prompt",
    Modality.AUDIO: "audio_url",
    Modality.EMBEDDING: "input",
}


def input_and_params(modality: Modality, flat: Mapping[str, Any]) -> tuple[Json, Json]:  # Any: JSON
    """What of a flat request is the input of the modality, and what its params. `input` may be an object of ours."""
    given, rest = flat.get("input"), {name: value for name, value in flat.items() if name != "input"}
    input_: Json = dict(given) if isinstance(given, Mapping) else {} if given is None else {_MAIN[modality]: given}
    params: Json = {}
    for name, value in rest.items():
        if name in _INPUT[modality]:
            input_[name] = value
        else:
            params[name] = value
    if modality is Modality.EMBEDDING and "prompt" in params:
        input_[_MAIN[modality]] = params.pop("prompt")
    return input_, params


# ---- results ----


def result_of(job: Job, cost_micro: int) -> Json | None:
    """Of a job that succeeded, whole or in part. The first picture stands for all, which are in `images`."""
    if job.output is None:
        return None
    first = next(iter(_images(job)), {})
    return {
        "url": first.get("url"),
        "duration_sec": job.output.get("duration_s"),
        "width": first.get("width"),
        "height": first.get("height"),
        "cost": cost_micro / 1_000_000,
        "cost_micro": cost_micro,
        "currency": "USD",
        **{name: value for name, value in job.output.items() if name != "duration_s"},
    }


def asset_of(job: Job) -> str | None:
    asset_id: str | None = next(iter(_images(job)), {}).get("asset_id")
    return asset_id


def _images(job: Job) -> list[Json]:
    return list((job.output or {}).get("images") or ())


# Of these the message is about the caller's own request. Others may name places, addresses and defects of ours.
_TOLD: Final = frozenset(
    {
        Code.INVALID_REQUEST,
        Code.INPUT_VALIDATION_FAILED,
        Code.NOT_FOUND,
        Code.MODEL_NOT_FOUND,
        Code.PAYLOAD_TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.QUOTA_EXCEEDED,
        Code.DEADLINE_EXCEEDED,
        Code.DOES_NOT_FIT,
    }
)


def sanitized(error: Json | None) -> str | None:
    """A job's error as one sentence that is anybody's to read."""
    if error is None:
        return None
    code = str(error.get("code"))
    return str(error["message"]) if code in _TOLD else f"the generation failed ({code})"
