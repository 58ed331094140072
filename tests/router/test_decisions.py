"""What the audit log tells of routing: what left the box and why, and what stayed because it had to."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from scripted import MODEL, ORGANIZATION

from protos.errors import NoProvider
from protos.types import Modality, ProviderId, Tier
from providers.base import Health, Offer, Snapshot
from router.candidates import Candidate
from router.decisions import Asker, Decisions, leaving
from router.routing import NeverServed, RoutingRequest
from router.store import audit
from router.store.sql import SqlStore

JOB = Asker(organization_id=ORGANIZATION, key_id="key-1", resource_id="job-1", is_job=True)
LOCAL_ONLY = RoutingRequest(modality=Modality.TEXT, privacy="local_only")


def place(name: str, *, is_remote: bool, status: str = "healthy") -> Snapshot:
    offer = Offer(model=MODEL, modality=Modality.TEXT, is_default=True)
    health = Health(status=status)  # type: ignore[arg-type]  # one of the three
    return Snapshot(
        id=ProviderId(name), kind="node", tier=Tier.BASIC, offers=(offer,), health=health, is_remote=is_remote
    )


HERE, AWAY = place("node", is_remote=False), place("openai", is_remote=True)
DOWN = place("node", is_remote=False, status="unavailable")


@pytest.fixture
async def store() -> AsyncIterator[SqlStore]:
    store = SqlStore("sqlite://", lambda _: None)
    async with asyncio.timeout(60):
        await store.open()
        yield store
        await store.close()


async def rows(store: SqlStore, decisions: Decisions) -> list[audit.Deed]:
    await decisions.close()
    return [entry.deed for entry in await store.look(lambda connection: audit.listed(connection, None, 50))]


async def test_a_request_that_must_stay_is_told_with_where_it_stays_and_who_was_not_asked(store: SqlStore) -> None:
    decisions = Decisions(store)
    for _ in range(3):  # as a job that is given back is routed again
        decisions.route(LOCAL_ONLY, [HERE, AWAY], JOB)
    (deed,) = await rows(store, decisions)
    assert (deed.action, deed.resource_id, deed.actor, deed.outcome) == ("job.route", "job-1", "key-1", "success")
    assert deed.detail is not None
    assert deed.detail.startswith("local_only stays on the box: node serves")
    assert deed.detail.endswith("not asked, as they are remote: openai")


@pytest.mark.parametrize(("places", "error"), [([DOWN, AWAY], NoProvider), ([AWAY], NeverServed)])
async def test_a_refusal_because_of_privacy_is_told_once(
    store: SqlStore, places: list[Snapshot], error: type[Exception]
) -> None:
    decisions = Decisions(store)
    for _ in range(3):
        with pytest.raises(error):
            decisions.route(LOCAL_ONLY, places, JOB)
    (deed,) = await rows(store, decisions)
    assert (deed.outcome, deed.detail) == (
        "denied",
        "local_only stays on the box: no place on it can have it now; not asked, as they are remote: openai",
    )


async def test_nothing_is_told_where_nothing_was_to_decide(store: SqlStore) -> None:
    decisions = Decisions(store)
    decisions.route(LOCAL_ONLY, [HERE], JOB)
    decisions.route(RoutingRequest(modality=Modality.TEXT), [HERE, AWAY], JOB)
    assert await rows(store, decisions) == []


def test_a_call_that_leaves_says_where_to_and_why() -> None:
    away = Candidate(ProviderId("openai"), MODEL, "serves m, costs about $0.01", is_remote=True)
    deed = leaving(JOB, away)
    assert deed is not None
    assert deed.detail == "leaves the box: openai serves m, costs about $0.01"
    assert leaving(JOB, away._replace(is_remote=False)) is None
