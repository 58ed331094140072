"""Why a job is where it is, from what is known of it."""

from dataclasses import replace

import pytest
from scripted import ORGANIZATION, a_job

from protos.errors import NodeUnavailable, NoProvider, Overloaded
from protos.types import Estimate, ModelId, ProviderId, Usage
from router.candidates import Candidate, Skipped
from router.explain import AttemptRecord, Dispatch, Explanation, Facts, explain
from router.jobs import EventKind, Job, JobEvent, JobState, Json, error_json
from router.routing import RULE, NeverServed, Route
from router.spending import BudgetReserved
from router.store.base import QueuePlace

NOW = 1_800_000_000.0
ROUTE = Route(
    candidates=(Candidate(ProviderId("node"), ModelId("parrot"), "serves parrot, costs nothing"),),
    skipped=(Skipped(ProviderId("echo"), "serves only requests that name its model", is_lasting=True),),
)
ESTIMATE = Estimate(
    model=ModelId("parrot"), usage=Usage(), queue_s=2.0, load_s=1.0, run_s=4.0, total_s=7.0, fits_memory=True
)
GONE: Json = {"code": "node_unavailable", "message": "the node went away"}


def a_waiting_job(**changes: object) -> Job:
    return replace(a_job(**changes), created_at=NOW - 10)


def explained(job: Job | None = None, **facts: object) -> Explanation:
    known: dict[str, object] = {
        "job": job or a_waiting_job(),
        "now": NOW,
        "events": (),
        "route": ROUTE,
        "place": QueuePlace(ahead=0, is_held=False, due_at=None),
        "room": 4,
        "estimate": ESTIMATE,
        "max_batch": 2,
    }
    return explain(Facts(**(known | facts)))  # type: ignore[arg-type]  # the fields differ in type


def an_event(seq: int, kind: EventKind, **payload: object) -> JobEvent:
    job_id = a_job().id
    return JobEvent(
        job_id=job_id,
        organization_id=ORGANIZATION,
        seq=seq,
        position=seq,
        kind=kind,
        payload=payload,
        timestamp=NOW - 10 + seq,
    )


STARTED = an_event(
    2,
    EventKind.STARTED,
    provider_id="node",
    node_id="node-1",
    model="parrot",
    reason="was the cheapest",
    skipped=[{"provider_id": "echo", "reason": "is not asked"}],
)
RETRYING = an_event(3, EventKind.RETRYING, attempts=1, cause=GONE, not_before=NOW + 5)


def code_of(explanation: Explanation) -> str | None:
    return explanation.hold.code if explanation.hold else None


# ---- what holds it ----


def test_the_next_of_its_queue_is_about_to_be_taken() -> None:
    found = explained()
    assert (found.position, code_of(found), found.rule) == (1, "claim", RULE)


def test_one_behind_others_waits_for_its_turn() -> None:
    found = explained(place=QueuePlace(ahead=6, is_held=False, due_at=None))
    assert (found.position, code_of(found)) == (7, "turn")
    assert found.summary.startswith("6 jobs of its queue go first")


def test_a_full_place_is_named_with_what_it_says() -> None:
    found = explained(room=0, busy="parrot has 2 of 2 seats taken")
    assert code_of(found) == "no_room"
    assert found.summary.endswith("the place says: parrot has 2 of 2 seats taken")


def test_nobody_healthy_is_told_in_routing_s_own_words() -> None:
    skipped = [{"provider_id": "node", "reason": "is unavailable: not seen yet"}]
    found = explained(route=NoProvider("nothing can serve text now", details={"skipped": skipped}))
    assert (code_of(found), found.summary) == ("no_provider", "nothing can serve text now")
    assert (found.candidates, found.skipped) == ([], skipped)
    assert found.expected_start_at is None


def test_one_that_nobody_may_ever_serve_is_about_to_fail() -> None:
    found = explained(route=NeverServed("no provider serves text as asked for"))
    assert code_of(found) == "claim"
    assert found.summary == "it fails at its next attempt: no provider serves text as asked for"


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"place": QueuePlace(ahead=None, is_held=False, due_at=NOW + 60)},
        {"place": QueuePlace(ahead=None, is_held=False, due_at=NOW + 60), "given_back": NoProvider("nothing could")},
        {"place": QueuePlace(ahead=None, is_held=True, due_at=NOW + 9)},
        {"place": QueuePlace(ahead=None, is_held=True, due_at=NOW + 9), "dispatch": Dispatch(began_at=NOW)},
        {"place": QueuePlace(ahead=3, is_held=False, due_at=None)},
    ],
    ids=["next", "between two looks", "given back", "claimed", "looked at", "behind others"],
)
def test_what_nobody_can_serve_waits_for_a_place_whatever_the_queue_does_with_it(known: dict[str, object]) -> None:
    found = explained(route=NoProvider("nothing can serve text now"), **known)
    assert (code_of(found), found.summary) == ("no_provider", "nothing can serve text now")


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"place": QueuePlace(ahead=None, is_held=False, due_at=NOW + 60)},
        {"place": QueuePlace(ahead=None, is_held=True, due_at=NOW + 9)},
        {
            "place": QueuePlace(ahead=None, is_held=True, due_at=NOW + 9),
            "dispatch": Dispatch(provider_id="openai", model="gpt-4o", began_at=NOW),
        },
    ],
    ids=["next", "between two looks", "claimed", "asking again"],
)
def test_one_held_back_by_its_budget_says_so(known: dict[str, object]) -> None:
    found = explained(given_back=BudgetReserved("the budget is reserved"), **known)
    assert (code_of(found), found.summary) == ("budget", "the budget is reserved")


def test_a_retry_that_spent_no_attempt_says_what_ended_it_too() -> None:
    waits = QueuePlace(ahead=None, is_held=False, due_at=NOW + 60)
    found = explained(place=waits, given_back=Overloaded("256 tasks are waiting"))
    assert found.hold is not None
    assert found.hold.message.endswith("the last one ended with overloaded: 256 tasks are waiting")


def test_a_retry_waits_for_its_moment_and_says_what_ended_the_last() -> None:
    found = explained(place=QueuePlace(ahead=None, is_held=False, due_at=NOW + 60), events=(STARTED, RETRYING))
    assert found.hold is not None
    assert (found.position, found.hold.code, found.hold.until) == (None, "retry_delay", NOW + 60)
    assert found.hold.message.endswith("the last one ended with node_unavailable: the node went away")
    assert found.expected_start_at == NOW + 60


def test_one_that_was_sent_waits_for_a_seat() -> None:
    sent = Dispatch(provider_id="node", model="parrot", position=3, began_at=NOW - 1)
    found = explained(place=QueuePlace(ahead=None, is_held=True, due_at=NOW + 9), dispatch=sent, busy="2 seats")
    assert code_of(found) == "seat"
    assert found.summary == (
        "it waits at node for a seat of parrot, 3 tasks were before it when it came; the place says: 2 seats"
    )


def test_one_that_was_taken_and_not_sent_says_so() -> None:
    held = QueuePlace(ahead=None, is_held=True, due_at=NOW + 9)
    assert code_of(explained(place=held, dispatch=Dispatch(began_at=NOW))) == "claim"
    assert code_of(explained(place=held)) == "claim"


# ---- when ----


@pytest.mark.parametrize(("ahead", "start_s"), [(0, 3.0), (1, 5.0), (10, 23.0)])
def test_those_before_it_run_first_in_batches(ahead: int, start_s: float) -> None:
    found = explained(place=QueuePlace(ahead=ahead, is_held=False, due_at=None))
    assert (found.expected_start_at, found.expected_end_at) == (NOW + start_s, NOW + start_s + 4.0)


def test_without_an_estimate_nothing_is_promised() -> None:
    found = explained(estimate=None)
    assert (found.expected_start_at, found.expected_end_at) == (None, None)


def test_a_deadline_before_the_expected_start_is_told() -> None:
    assert explained(a_waiting_job(deadline_s=12.0)).summary.endswith("expected to fail at its deadline before that")
    assert "deadline" not in explained(a_waiting_job(deadline_s=14.0)).summary


def a_running_job(progress: float = 0.0) -> Job:
    return replace(
        a_waiting_job(),
        state=JobState.STARTED,
        started_at=NOW - 1,
        provider_id="node",
        model="parrot",
        attempts=1,
        progress=progress,
    )


@pytest.mark.parametrize(("progress", "end_at"), [(0.0, NOW + 3.0), (0.25, NOW + 3.0), (0.5, NOW + 1.0)])
def test_a_running_job_ends_as_its_progress_or_its_estimate_says(progress: float, end_at: float) -> None:
    running = Dispatch(provider_id="node", model="parrot", has_started=True, began_at=NOW - 1)
    found = explained(
        a_running_job(progress), place=QueuePlace(ahead=None, is_held=True, due_at=NOW + 9), dispatch=running
    )
    assert (found.hold, found.summary) == (None, "the job runs at node with parrot")
    assert (found.expected_start_at, found.expected_end_at) == (NOW - 1, end_at)


# ---- what was decided ----


def test_one_that_waits_shows_what_would_be_decided_now() -> None:
    found = explained()
    assert found.candidates == [{"provider_id": "node", "model": "parrot", "reason": "serves parrot, costs nothing"}]
    assert found.skipped == [{"provider_id": "echo", "reason": "serves only requests that name its model"}]
    assert found.attempts == []


def test_one_that_started_shows_what_was_decided_then() -> None:
    found = explained(a_running_job(), events=(STARTED,))
    assert found.candidates == [{"provider_id": "node", "model": "parrot", "reason": "was the cheapest"}]
    assert found.skipped == [{"provider_id": "echo", "reason": "is not asked"}]


def test_one_that_was_read_just_before_its_start_is_told_by_its_event() -> None:
    found = explained(a_waiting_job(), events=(STARTED,))
    assert [each["provider_id"] for each in found.candidates] == ["node"]


def test_attempts_are_told_with_their_causes() -> None:
    second = Dispatch(provider_id="node", model="parrot", has_started=True, began_at=NOW - 1)
    found = explained(a_running_job(), events=(STARTED, RETRYING), dispatch=second)
    first, now = found.attempts
    assert (first.number, first.started_at, first.ended_at, first.cause, first.again_at) == (
        1,
        NOW - 8,
        NOW - 7,
        GONE,
        NOW + 5,
    )
    assert (now.number, now.started_at, now.ended_at, now.provider_id) == (2, NOW - 1, None, "node")


def test_an_ended_job_tells_how_it_ended() -> None:
    error = error_json(NodeUnavailable("the node went away"))
    job = replace(
        a_running_job(), state=JobState.FAILED, attempts=2, error=error, completed_at=NOW - 2, provider_id="node"
    )
    failed = an_event(4, EventKind.FAILED, error=error)
    found = explained(job, events=(STARTED, RETRYING, failed), place=None, estimate=None)
    assert found.summary == "the job has ended as failed at node with node_unavailable: the node went away"
    assert [(each.number, each.cause) for each in found.attempts] == [(1, GONE), (2, error)]
    assert (found.hold, found.position, found.expected_end_at) == (None, None, NOW - 2)


def test_one_that_was_cancelled_before_it_began_has_no_attempts() -> None:
    job = replace(a_waiting_job(), state=JobState.CANCELLED, completed_at=NOW)
    found = explained(job, events=(an_event(1, EventKind.CREATED), an_event(2, EventKind.CANCELLED)), place=None)
    assert found.attempts == []
    assert found.summary == "the job has ended as cancelled, never started"


def test_a_completed_job_has_its_one_attempt() -> None:
    job = replace(a_running_job(), state=JobState.COMPLETED, completed_at=NOW)
    found = explained(job, events=(STARTED, an_event(3, EventKind.COMPLETED)), place=None)
    assert found.attempts == [
        AttemptRecord(
            number=1,
            started_at=NOW - 8,
            ended_at=NOW - 7,
            provider_id="node",
            node_id="node-1",
            model="parrot",
        )
    ]
