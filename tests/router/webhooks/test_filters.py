"""Which webhook gets which event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import InputInvalid
from protos.types import OrganizationId
from router.jobs import EventKind, JobEvent, JobId
from router.webhooks.filters import FIELDS, JobFacts, checked_conditions, checked_kinds, matches

FACTS = JobFacts("text", "basic", "asked", {"project": "moon", "run": 7, "is_test": True})


def event(kind: EventKind = EventKind.COMPLETED, **payload: object) -> JobEvent:
    return JobEvent(
        job_id=JobId("job_01"),
        organization_id=OrganizationId("org"),
        seq=3,
        position=9,
        kind=kind,
        payload=payload,
        timestamp=0.0,
        node_id="node-1",
    )


@pytest.mark.parametrize("pattern", ["job.completed", "job.*", "*", "*.completed", "j*d", "job.com*ted"])
def test_a_kind_matches_itself_and_its_wildcards(pattern: str) -> None:
    assert matches(event(), FACTS, [pattern], None)


@pytest.mark.parametrize(
    "pattern", ["job.failed", "job", "job.", "workflow.run.completed", "jobXcompleted", "*.failed"]
)
def test_another_kind_does_not_match(pattern: str) -> None:
    assert not matches(event(), FACTS, [pattern], None)


def test_one_of_the_kinds_is_enough() -> None:
    assert matches(event(), FACTS, ["workflow.*", "job.completed"], None)


@given(st.sampled_from(EventKind))
def test_a_star_matches_every_kind(kind: EventKind) -> None:
    assert matches(event(kind), FACTS, ["*"], {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("job_id", "job_01"),
        ("run_id", "run_01"),
        ("node_key", "node-1"),
        ("status", "completed"),
        ("provider_id", "node"),
        ("model", "served"),
        ("modality", "text"),
        ("tier", "basic"),
        ("metadata.project", "moon"),
        ("metadata.run", "7"),
        ("metadata.is_test", "true"),
    ],
)
def test_a_condition_looks_at_the_event_and_its_job(name: str, value: str) -> None:
    happened = event(status="completed", provider_id="node", model="served")
    assert matches(happened, FACTS, ["*"], {name: value})
    assert not matches(happened, FACTS, ["*"], {name: value + "x"})


def test_all_conditions_must_hold() -> None:
    assert not matches(event(), FACTS, ["*"], {"modality": "text", "tier": "premium"})


def test_what_an_event_does_not_have_matches_no_condition() -> None:
    assert not matches(event(), FACTS, ["*"], {"metadata.missing": "None"})
    assert not matches(event(), FACTS, ["*"], {"workflow_id": "None"})


def test_the_model_that_was_asked_for_counts_until_one_serves() -> None:
    assert matches(event(EventKind.PROGRESS), FACTS, ["*"], {"model": "asked"})


def test_kinds_are_kept_once_in_their_order_the_unknown_too() -> None:
    kinds = ["workflow.run.completed", "job.*", "job.*"]
    assert checked_kinds(kinds, "events") == ["workflow.run.completed", "job.*"]


@pytest.mark.parametrize(
    ("kinds", "wrong"),
    [
        ([], r"events: has 0 kinds"),
        (["x"] * 51, r"events: has 51 kinds"),
        (["Job Completed"], r"events\[0\]: is 'Job Completed'"),
        (["job.*", ""], r"events\[1\]: is ''"),
        (["*a*b*c*d"], r"events\[0\]"),
    ],
)
def test_kinds_that_cannot_be_are_named(kinds: list[str], wrong: str) -> None:
    with pytest.raises(InputInvalid, match=wrong):
        checked_kinds(kinds, "events")


def test_conditions_are_kept_as_text() -> None:
    assert checked_conditions({"modality": "text", "metadata.run": 7, "metadata.on": True}, "f") == {
        "modality": "text",
        "metadata.run": "7",
        "metadata.on": "true",
    }


def test_conditions_that_cannot_be_are_named() -> None:
    with pytest.raises(InputInvalid, match=r"f.colour: is nothing .*f.modality: is a list"):
        checked_conditions({"colour": "red", "modality": ["text"]}, "f")
    with pytest.raises(InputInvalid, match=r"f.metadata.: is nothing"):
        checked_conditions({"metadata.": "x"}, "f")
    with pytest.raises(InputInvalid, match="has 21 conditions"):
        checked_conditions({f"metadata.{n}": "x" for n in range(21)}, "f")


@given(st.sampled_from(FIELDS))
def test_every_field_that_is_named_can_be_asked_for(name: str) -> None:
    assert isinstance(matches(event(), FACTS, ["*"], checked_conditions({name: "x"}, "f")), bool)
