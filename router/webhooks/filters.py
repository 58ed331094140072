"""Which events a webhook gets: by kind, with wildcards, and by what the event and its job are. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protos.errors import InputInvalid
from router.jobs import JobEvent, Json

_PATTERN: Final = re.compile(r"[a-z0-9_.*-]{1,100}")
METADATA: Final = "metadata."  # and a key of the job's metadata
FIELDS: Final = ("job_id", "run_id", "node_key", "workflow_id", "status", "provider_id", "model", "modality", "tier")
PATTERNS: Final = 50  # of one webhook
CONDITIONS: Final = 20


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What of an event's job a filter may ask for."""

    modality: str
    tier: str | None
    model: str | None
    metadata: Json


def matches(event: JobEvent, job: JobFacts, kinds: Sequence[str], conditions: Mapping[str, str] | None) -> bool:
    """Whether a webhook with these filters gets the event: any of the kinds, all of the conditions."""
    if not any(_compiled(pattern).fullmatch(event.kind) for pattern in kinds):
        return False
    return all(_value(event, job, name) == wanted for name, wanted in (conditions or {}).items())


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` stands for any characters, dots included."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))


def _value(event: JobEvent, job: JobFacts, name: str) -> str | None:
    key = name.removeprefix(METADATA)
    found = _fields(event, job)[name] if key == name else job.metadata.get(key)
    return None if found is None else text_of(found)


def _fields(event: JobEvent, job: JobFacts) -> Mapping[str, object]:
    return {
        "job_id": event.job_id,
        "run_id": "run_" + event.job_id.removeprefix("job_"),
        "node_key": event.node_id,
        "workflow_id": None,
        "status": event.payload.get("status"),
        "provider_id": event.payload.get("provider_id"),
        "model": event.payload.get("model") or job.model,
        "modality": job.modality,
        "tier": job.tier,
    }


def text_of(value: object) -> str:
    """A condition's value is text; JSON's true is "true"."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---- what callers give ----


def checked_kinds(kinds: Sequence[str], field: str) -> list[str]:
    """Without repeats. Kinds that this release has none of are kept: they match nothing yet. Raises InputInvalid."""
    wrong = [
        (f"{field}[{index}]", f"is {kind[:40]!r}: use a kind such as job.completed, or job.*")
        for index, kind in enumerate(kinds)
        if not _PATTERN.fullmatch(kind) or kind.count("*") > 3  # each is a loop of the matcher
    ]
    if not 0 < len(kinds) <= PATTERNS:
        wrong.append((field, f"has {len(kinds)} kinds: name 1 to {PATTERNS}, such as job.completed, or job.*"))
    if wrong:
        raise InputInvalid.of(wrong)
    return list(dict.fromkeys(kinds))


def checked_conditions(conditions: Mapping[str, object], field: str) -> dict[str, str]:
    """Raises InputInvalid for what no event can ever have."""
    known = f"use {', '.join(FIELDS)}, or {METADATA} and a key of the job's metadata"
    wrong = [
        (f"{field}.{name[:40]}", f"is nothing that events have: {known}") for name in conditions if not _is_known(name)
    ]
    wrong += [
        (f"{field}.{name[:40]}", "is a list or an object: use one text or number")
        for name, value in conditions.items()
        if not isinstance(value, str | int | float)
    ]
    if len(conditions) > CONDITIONS:
        wrong.append((field, f"has {len(conditions)} conditions: at most {CONDITIONS}"))
    if wrong:
        raise InputInvalid.of(wrong)
    return {name: text_of(value) for name, value in conditions.items()}


def _is_known(name: str) -> bool:
    return name in FIELDS or (name.startswith(METADATA) and len(name) > len(METADATA))
