"""What has to come of a sample, as predicates over decoded JSON. Not about which sample wants which (samples/)."""

from collections.abc import Mapping
from typing import Any, Final

from clients.sample import Check

Found = Any  # decoded JSON of any shape
_ALIVE: Final = frozenset({"pending", "started", "completed"})
LIFE: Final = ["job.created", "job.started", "job.completed"]


def is_a_job(found: Found) -> bool:
    """As the page shows the answer to a submission. One that was there before may be further."""
    is_named = found["job_id"] == found["id"] and found["id"].startswith("job_")
    return is_named and found["workflow_run_id"].startswith("run_") and found["status"] in _ALIVE


def is_done(found: Found) -> bool:
    return bool(found["status"] == "completed" and found["output"]["text"] == "one two three")


def is_a_page(found: Found) -> bool:
    return len(found["jobs"]) > 0 and {"has_more", "cursor"} <= set(found)


def is_a_job_s_usage(found: Found) -> bool:
    """Of a local job: it cost nothing."""
    return bool(found["output_tokens"] == 3 and found["cost_micro"] == 0 and found["currency"] == "USD")


def is_a_vendor_s_estimate(found: Found) -> bool:
    return bool(found["model"] == "gpt-4" and found["estimated_cost_usd"] > 0)


def is_a_local_estimate(found: Found) -> bool:
    return bool(found["provider_id"] == "node" and found["estimated_cost_usd"] == 0)


def are_a_job_s_events(found: Found) -> bool:
    return [event["kind"] for event in found] == LIFE and all(isinstance(event["payload"], dict) for event in found)


def are_kinds_and_payloads(found: Found) -> bool:
    """Two things printed for each event."""
    return [kind for kind, _ in found] == LIFE and all(isinstance(payload, dict) for _, payload in found)


def are_whole_events(found: Found) -> bool:
    """One thing printed for each event: the event."""
    return are_a_job_s_events([event for (event,) in found])


def has(**values: object) -> Check:
    """An object with these values."""
    return lambda found: {name: found[name] for name in values} == values


def has_all(*names: str) -> Check:
    return lambda found: set(names) <= set(found)


def equals(value: object) -> Check:
    return lambda found: bool(found == value)


def are_some_with(**values: object) -> Check:
    """A list in which one has these values."""
    return lambda found: any({name: each[name] for name in values} == values for each in found)


# ---- FairStack ----


def is_a_generation(found: Mapping[str, Found]) -> bool:
    """Submitted, awaited, and there."""
    submitted, ended = found["submitted"], found["ended"]
    is_same = submitted["job_id"] == ended["job_id"] and submitted["status"] == "queued"
    return is_same and ended["status"] == "succeeded" and bool(ended["result"]["url"])


def is_shaped_as(printed: Found, part: str) -> Check:
    """That part of a generation has the members of the object that the page prints, down to the innermost."""
    return lambda found: _is_shaped_as(found[part], printed)


def _is_shaped_as(found: Found, printed: Found) -> bool:
    if not isinstance(printed, dict):
        return True
    return set(printed) <= set(found) and all(_is_shaped_as(found[name], value) for name, value in printed.items())
