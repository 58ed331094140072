"""What every store does, whatever it is made of. A further database is a further line in STORES."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from scripted import LANE, ORGANIZATION, ManualClock, a_job, claimed, lanes_of, next_due_of

from protos.errors import IdempotencyKeyReused, InvalidRequest, JobTerminal, NotFound, Overloaded, QuotaExceeded
from protos.types import Modality, OrganizationId, Tier, Usage
from router.jobs import EventKind, Job, JobEvent, JobId, JobState
from router.store.base import Ending, JobFilter, Lease, LeaseLost, Store
from router.store.sql import SqlStore

STORES: Final[dict[str, Callable[[Path], str]]] = {
    "sqlite-file": lambda folder: f"sqlite:///{folder}/jobs.db",
    "sqlite-memory": lambda _folder: "sqlite://",
}
LEASE_S = 10.0
DONE = Ending(state=JobState.COMPLETED, output={"text": "7"}, usage=Usage(output_tokens=1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def committed() -> list[JobEvent]:
    return []


@pytest.fixture(params=STORES)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock, committed: list[JobEvent]
) -> AsyncIterator[Store]:
    store = SqlStore(STORES[request.param](tmp_path), committed.extend, clock)
    async with asyncio.timeout(60):
        await store.open()
        yield store
        await store.close()


async def create(store: Store, **changes: object) -> Job:
    job, _ = await store.create(a_job(**changes), 1000)
    return job


async def claim(store: Store, count: int = 1, lane: str = LANE) -> Sequence[Lease]:
    return await claimed(store, {lane: count}, LEASE_S)


async def claim_one(store: Store) -> Lease:
    (lease,) = await claim(store)
    return lease


async def start(store: Store, lease: Lease) -> Job:
    return await store.start(lease, "node", "node-1", "parrot")


async def kinds(store: Store, job_id: JobId) -> list[EventKind]:
    return [event.kind for event in await store.events_of_job(job_id, 0, 100)]


# ---- create, get, list ----


async def test_a_created_job_is_read_back_as_it_was(store: Store) -> None:
    job = await create(
        store,
        params={"temperature": 0.5},
        tier=Tier.BASIC,
        model="parrot",
        metadata={"who": "ü \ud800 me"},
        timeout_s=3.5,
        deadline_s=9.0,
        max_cost_usd=0.25,
        privacy="local_only",
        webhook_url="https://example.org/hook",
    )
    assert await store.get(job.id) == job


async def test_an_unknown_id_is_none(store: Store) -> None:
    assert await store.get(JobId("job_nobody")) is None


async def test_a_repeated_idempotency_key_gets_the_original(store: Store) -> None:
    first = await create(store, idempotency_key="k", payload_hash="h")
    again, is_new = await store.create(a_job(idempotency_key="k", payload_hash="h"), 1000)
    assert (again, is_new) == (first, False)
    assert len(await store.list_jobs(JobFilter(organization_id=ORGANIZATION))) == 1


async def test_an_idempotency_key_with_another_payload_is_refused(store: Store) -> None:
    await create(store, idempotency_key="k", payload_hash="h")
    with pytest.raises(IdempotencyKeyReused, match="'k'"):
        await create(store, idempotency_key="k", payload_hash="other")


async def test_an_idempotency_key_is_one_organizations_own(store: Store) -> None:
    await create(store, idempotency_key="k", payload_hash="h")
    _, is_new = await store.create(
        a_job(idempotency_key="k", payload_hash="x", organization_id=OrganizationId("org-2")), 1000
    )
    assert is_new


async def test_one_key_created_many_times_at_once_is_one_job(store: Store) -> None:
    created = await asyncio.gather(
        *(store.create(a_job(idempotency_key="k", payload_hash="h"), 1000) for _ in range(20))
    )
    assert len({job.id for job, _ in created}) == 1
    assert sum(is_new for _, is_new in created) == 1


async def test_the_waiting_limit_refuses_the_next_job(store: Store) -> None:
    await asyncio.gather(*(store.create(a_job(), 3) for _ in range(3)))
    with pytest.raises(Overloaded, match="3 jobs are waiting, the limit is 3") as refused:
        await store.create(a_job(), 3)
    assert refused.value.retry_after_s


async def test_a_job_that_started_waits_no_more(store: Store) -> None:
    await store.create(a_job(), 1)
    await start(store, await claim_one(store))
    _, is_new = await store.create(a_job(), 1)
    assert is_new


async def test_a_bad_operation_does_not_harm_the_others_of_its_group(store: Store) -> None:
    await create(store, idempotency_key="k", payload_hash="h")
    results = await asyncio.gather(
        store.create(a_job(), 1000),
        store.create(a_job(idempotency_key="k", payload_hash="other"), 1000),
        store.create(a_job(model="surrogate \ud800"), 1000),  # no database stores it
        store.create(a_job(), 1000),
        store.cancel(JobId("job_nobody")),
        return_exceptions=True,
    )
    assert [isinstance(result, Exception) for result in results] == [False, True, True, False, True]
    assert len(await store.list_jobs(JobFilter(organization_id=ORGANIZATION))) == 3


async def test_a_number_that_json_lacks_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="finite"):
        await create(store, metadata={"x": float("nan")})


async def test_the_list_is_newest_first_and_pages_without_gap_while_jobs_arrive(store: Store) -> None:
    jobs = [await create(store) for _ in range(5)]
    first = await store.list_jobs(JobFilter(organization_id=ORGANIZATION, limit=2))
    await create(store)
    second = await store.list_jobs(JobFilter(organization_id=ORGANIZATION, limit=9, before=first[-1].id))
    assert [job.id for job in [*first, *second]] == [job.id for job in reversed(jobs)]


async def test_the_list_filters(store: Store) -> None:
    text = await create(store, model="parrot", tier=Tier.BASIC)
    picture = await create(store, modality=Modality.IMAGE, input={"prompt": "a cat"})
    await create(store, organization_id=OrganizationId("org-2"))
    await store.cancel(text.id)

    async def ids(**filters: object) -> list[JobId]:
        wanted = JobFilter(organization_id=ORGANIZATION, **filters)  # type: ignore[arg-type]  # one of many types
        return [job.id for job in await store.list_jobs(wanted)]

    assert await ids(status=JobState.CANCELLED) == [text.id]
    assert await ids(modality=Modality.IMAGE) == [picture.id]
    assert await ids(tier="basic") == [text.id]
    assert await ids(model="parrot") == [text.id]
    assert await ids(since=picture.created_at) == [picture.id]
    assert await ids(status=JobState.PENDING, modality=Modality.TEXT) == []


async def test_every_combination_of_filters_pages_through_the_jobs_that_pass_it(store: Store) -> None:
    kinds_of = list(itertools.product((Modality.TEXT, Modality.AUDIO), (None, Tier.BASIC), (None, "echo")))
    jobs = [await create(store, modality=each[0], tier=each[1], model=each[2]) for each in kinds_of * 2]
    jobs = [await store.cancel(job.id) if index % 3 else job for index, job in enumerate(jobs)]
    filters = itertools.product(
        (None, JobState.PENDING, JobState.CANCELLED), (None, Modality.AUDIO), (None, "basic"), (None, "echo")
    )
    for status, modality, tier, model in filters:
        wanted = JobFilter(organization_id=ORGANIZATION, status=status, modality=modality, tier=tier, model=model)
        passing = [job.id for job in reversed(jobs) if _passes(job, wanted)]
        assert await paged(store, wanted) == passing


def _passes(job: Job, wanted: JobFilter) -> bool:
    asked = (wanted.status, wanted.modality, wanted.tier, wanted.model)
    has = (job.state, job.request.modality, job.request.tier, job.model)
    return all(value in (None, its) for value, its in zip(asked, has, strict=True))


async def paged(store: Store, wanted: JobFilter) -> list[JobId]:
    """All that pass, three at a time."""
    found: list[JobId] = []
    while page := await store.list_jobs(replace(wanted, limit=3, before=found[-1] if found else None)):
        found.extend(job.id for job in page)
    return found


# ---- the queue ----


async def test_a_claim_takes_no_more_than_there_is_room_for(store: Store) -> None:
    for _ in range(3):
        await create(store)
    await create(store, model="other")
    assert len(await claim(store, 2)) == 2
    assert len(await claim(store, 9)) == 1
    assert len(await claim(store, 9, "other")) == 1
    assert await claim(store, 9) == []


async def test_higher_priority_is_claimed_first_then_arrival(store: Store) -> None:
    low, first, second, high = [await create(store, priority=priority) for priority in (0, 50, 50, 100)]
    assert [lease.job.id for lease in await claim(store, 9)] == [high.id, first.id, second.id, low.id]


async def test_organizations_alternate_however_much_one_of_them_sent(store: Store) -> None:
    for _ in range(6):
        await create(store, organization_id=OrganizationId("many"))
    await claim(store, 3)
    for _ in range(2):
        await create(store, organization_id=OrganizationId("few"))
    order = [lease.job.request.organization_id for lease in await claim(store, 9)]
    assert order == ["many", "few", "many", "few", "many"]


async def test_the_queue_names_each_lane_once(store: Store) -> None:
    for model in ("b", "a", None, "a"):
        await create(store, model=model)
    assert await lanes_of(store) == ["a", "b", LANE]
    await claim(store, 9, "a")
    assert await lanes_of(store) == ["b", LANE]


async def test_concurrent_claims_never_share_a_job(store: Store) -> None:
    for _ in range(20):
        await create(store)
    claims = await asyncio.gather(*(claim(store, 3) for _ in range(10)))
    ids = [lease.job.id for leases in claims for lease in leases]
    assert len(ids) == len(set(ids)) == 20


async def test_an_expired_lease_is_adopted_and_the_old_one_counts_no_more(store: Store, clock: ManualClock) -> None:
    await create(store)
    old = await claim_one(store)
    await start(store, old)
    assert await claim(store) == []
    clock.now += LEASE_S
    new = await claim_one(store)
    assert (new.job.id, new.job.state, new.job.attempts) == (old.job.id, JobState.STARTED, 1)
    assert await store.finish(old, DONE) is None
    with pytest.raises(LeaseLost):
        await start(store, old)
    with pytest.raises(LeaseLost):
        await store.append(old, EventKind.PROGRESS, {"progress": 0.5})
    assert await store.finish(new, DONE) is not None
    assert await kinds(store, new.job.id) == [
        EventKind.CREATED,
        EventKind.STARTED,
        EventKind.RETRYING,
        EventKind.COMPLETED,
    ]


async def test_a_renewed_lease_stays(store: Store, clock: ManualClock) -> None:
    await create(store)
    await create(store)
    kept, lost = await claim(store, 2)
    await store.cancel(lost.job.id)
    clock.now += LEASE_S - 1
    assert await store.renew([kept, lost], LEASE_S) == [lost.job.id]
    clock.now += LEASE_S - 1
    assert await claim(store) == []


async def test_a_released_job_comes_back_when_it_is_due_before_those_that_wait(
    store: Store, clock: ManualClock
) -> None:
    job = await create(store)
    lease = await claim_one(store)
    await create(store)
    await store.release(lease, clock.now + 5, {"code": "node_unavailable", "message": "gone"})
    assert await next_due_of(store) == clock.now + 5
    assert (await claim_one(store)).job.id != job.id
    clock.now += 5
    assert await lanes_of(store) == [LANE]
    assert (await claim_one(store)).job.id == job.id
    assert (await kinds(store, job.id))[-1] is EventKind.RETRYING


async def test_a_release_without_a_cause_counts_no_attempt_and_tells_no_event(store: Store, clock: ManualClock) -> None:
    job = await create(store)
    lease = await claim_one(store)
    await start(store, lease)
    await store.release(lease, clock.now, None)
    again = await claim_one(store)
    assert (again.job.state, again.job.attempts) == (JobState.STARTED, 0)
    assert await kinds(store, job.id) == [EventKind.CREATED, EventKind.STARTED]


async def test_next_due_is_none_when_nothing_is_held(store: Store) -> None:
    await create(store)
    assert await next_due_of(store) is None


# ---- a job's life ----


async def test_a_job_runs_to_its_end(store: Store, clock: ManualClock) -> None:
    job = await create(store)
    lease = await claim_one(store)
    started = await start(store, lease)
    assert (started.state, started.attempts, started.started_at) == (JobState.STARTED, 1, clock.now)
    await store.append(lease, EventKind.PROGRESS, {"progress": 0.5, "step": 1, "steps": 2})
    halfway = await store.get(job.id)
    assert halfway is not None
    assert halfway.progress == 0.5
    ended = await store.finish(lease, DONE)
    assert ended == await store.get(job.id)
    assert ended is not None
    assert (ended.state, ended.output, ended.usage) == (JobState.COMPLETED, DONE.output, DONE.usage)
    assert (ended.provider_id, ended.node_id, ended.model, ended.progress) == ("node", "node-1", "parrot", 1.0)
    assert await next_due_of(store) is None


async def test_a_second_attempt_counts_but_starts_no_second_time(store: Store, clock: ManualClock) -> None:
    job = await create(store)
    first = await claim_one(store)
    await start(store, first)
    await store.release(first, clock.now, {"code": "node_unavailable", "message": "gone"})
    second = await claim_one(store)
    assert (await start(store, second)).attempts == 2
    assert await kinds(store, job.id) == [EventKind.CREATED, EventKind.STARTED, EventKind.RETRYING]


async def test_a_pending_job_can_fail(store: Store) -> None:
    await create(store)
    error = {"code": "model_not_found", "message": "no"}
    ended = await store.finish(await claim_one(store), Ending(state=JobState.FAILED, error=error))
    assert ended is not None
    assert (ended.state, ended.error) == (JobState.FAILED, error)


async def test_of_two_ends_the_first_counts(store: Store) -> None:
    job = await create(store)
    lease = await claim_one(store)
    await start(store, lease)
    await store.cancel(job.id)
    assert await store.finish(lease, DONE) is None
    ended = await store.get(job.id)
    assert ended is not None
    assert (ended.state, ended.output) == (JobState.CANCELLED, None)


async def test_finish_and_cancel_at_once_end_a_job_exactly_once(store: Store) -> None:
    for _ in range(20):
        await create(store)
    leases = await claim(store, 20)
    for lease in leases:
        await start(store, lease)
    writes = [write for lease in leases for write in (store.finish(lease, DONE), store.cancel(lease.job.id))]
    await asyncio.gather(*writes, return_exceptions=True)
    for lease in leases:
        assert sum(event.is_terminal for event in await store.events_of_job(lease.job.id, 0, 100)) == 1


async def test_a_pending_job_is_cancelled_and_never_claimed(store: Store) -> None:
    job = await create(store)
    assert (await store.cancel(job.id)).state is JobState.CANCELLED
    assert await claim(store) == []
    with pytest.raises(JobTerminal, match="already been cancelled"):
        await store.cancel(job.id)


async def test_cancel_of_nobody_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="job_nobody"):
        await store.cancel(JobId("job_nobody"))


async def test_the_unfinished_are_counted_by_state(store: Store, clock: ManualClock) -> None:
    for _ in range(5):
        await create(store)
    ends, runs, _ = await claim(store, 3)
    await start(store, ends)
    await start(store, runs)
    await store.finish(ends, DONE)
    await store.release(runs, clock.now, {"code": "node_unavailable", "message": "gone"})
    assert await store.count_unfinished() == {JobState.PENDING: 3, JobState.STARTED: 1}


# ---- events ----


async def test_events_count_per_job_and_per_organization(store: Store, committed: list[JobEvent]) -> None:
    other = OrganizationId("org-2")
    first, second = await create(store), await create(store)
    await create(store, organization_id=other)
    await store.cancel(first.id)
    events = await store.events_of_organization(ORGANIZATION, 0, 100)
    assert [(event.job_id, event.seq, event.position) for event in events] == [
        (first.id, 1, 1),
        (second.id, 1, 2),
        (first.id, 2, 3),
    ]
    assert await store.last_position(ORGANIZATION) == 3
    assert await store.last_position(other) == 1
    assert await store.last_position(OrganizationId("nobody")) == 0
    assert [event for event in committed if event.organization_id == ORGANIZATION] == list(events)


async def test_events_are_read_after_a_cursor_and_by_page(store: Store) -> None:
    job = await create(store)
    lease = await claim_one(store)
    for step in range(4):
        await store.append(lease, EventKind.PROGRESS, {"progress": step / 4})
    assert [event.seq for event in await store.events_of_job(job.id, 1, 2)] == [2, 3]
    assert [event.position for event in await store.events_of_organization(ORGANIZATION, 3, 9)] == [4, 5]


async def test_many_writers_leave_no_gap_in_the_positions(store: Store) -> None:
    await asyncio.gather(*(create(store) for _ in range(100)))
    events = await store.events_of_organization(ORGANIZATION, 0, 1000)
    assert [event.position for event in events] == list(range(1, 101))


# ---- deadlines and places ----


async def create_until(store: Store, clock: ManualClock, deadline_s: float, **changes: object) -> Job:
    job, _ = await store.create(replace(a_job(deadline_s=deadline_s, **changes), created_at=clock.now), 1000)
    return job


async def test_a_job_that_still_waits_at_its_deadline_fails_instead_of_running(
    store: Store, clock: ManualClock
) -> None:
    late = await create_until(store, clock, 5.0, priority=90)
    other = await create_until(store, clock, 50.0)
    assert await next_due_of(store) == clock.now + 5.0
    clock.now += 5.0
    assert [lease.job.id for lease in await claim(store, 9)] == [other.id]
    job = await store.get(late.id)
    assert job is not None
    assert (job.state, job.attempts, job.completed_at) == (JobState.FAILED, 0, clock.now)
    assert job.error is not None
    assert job.error["code"] == "deadline_exceeded"
    (_, failed) = await store.events_of_job(late.id, 0, 10)
    assert (failed.kind, failed.payload["error"]) == (EventKind.FAILED, job.error)
    assert (await store.count_unfinished())[JobState.PENDING] == 1
    assert await next_due_of(store) == clock.now + LEASE_S  # the other one's lease


async def test_a_deadline_passes_without_room_too(store: Store, clock: ManualClock) -> None:
    late = await create_until(store, clock, 5.0)
    clock.now += 6.0
    assert await claimed(store, {}, LEASE_S) == []
    assert await kinds(store, late.id) == [EventKind.CREATED, EventKind.FAILED]


async def test_a_claimed_job_goes_on_past_its_deadline(store: Store, clock: ManualClock) -> None:
    job = await create_until(store, clock, 5.0)
    lease = await claim_one(store)
    await start(store, lease)
    clock.now += 6.0
    assert await claimed(store, {LANE: 9}, LEASE_S) == []
    ended = await store.finish(lease, DONE)
    assert ended is not None
    assert (ended.id, ended.state) == (job.id, JobState.COMPLETED)


async def test_a_retry_waits_until_the_deadline_at_most(store: Store, clock: ManualClock) -> None:
    job = await create_until(store, clock, 5.0)
    lease = await claim_one(store)
    await start(store, lease)
    await store.release(lease, clock.now + 60.0, {"code": "node_unavailable", "message": "gone"})
    assert await next_due_of(store) == clock.now + 5.0
    clock.now += 5.0
    assert await claim(store) == []
    assert await kinds(store, job.id) == [EventKind.CREATED, EventKind.STARTED, EventKind.RETRYING, EventKind.FAILED]


async def test_a_place_is_how_many_go_first(store: Store, clock: ManualClock) -> None:
    jobs = [await create(store), await create(store), await create(store, priority=90)]
    await create(store, model="other")
    places = [await store.place(job.id) for job in jobs]
    assert [place.ahead for place in places if place is not None] == [1, 2, 0]
    lease = await claim_one(store)
    held = await store.place(jobs[2].id)
    assert held is not None
    assert (held.ahead, held.is_held, held.due_at) == (None, True, clock.now + LEASE_S)
    await store.release(lease, clock.now + 7.0, None)
    waiting = await store.place(jobs[2].id)
    assert waiting is not None
    assert (waiting.ahead, waiting.is_held, waiting.due_at) == (None, False, clock.now + 7.0)
    assert await store.place(JobId("job_nobody")) is None


async def test_the_started_event_says_what_was_decided(store: Store) -> None:
    await create(store)
    lease = await claim_one(store)
    await store.start(lease, "node", "node-1", "parrot", {"reason": "is the only one"})
    (_, started) = await store.events_of_job(lease.job.id, 0, 10)
    assert (started.payload["reason"], started.payload["node_id"]) == ("is the only one", "node-1")


# ---- how many jobs a key may have ----


async def test_of_many_jobs_of_a_key_at_once_no_more_pass_than_may(store: Store) -> None:
    created = await asyncio.gather(
        *(store.create(a_job(key_id="key_1"), 1000, 3) for _ in range(20)), return_exceptions=True
    )
    refused = [each for each in created if isinstance(each, QuotaExceeded)]
    assert len(refused) == 17
    assert refused[0].retry_after_s
    await store.create(a_job(key_id="key_2"), 1000, 3)
    await store.create(a_job(), 1000, 3)


async def test_a_job_that_ends_makes_room_for_another_of_its_key(store: Store) -> None:
    one, _ = await store.create(a_job(key_id="key_1"), 1000, 1)
    with pytest.raises(QuotaExceeded, match="key_1 has 1 jobs that have not ended, its limit is 1"):
        await store.create(a_job(key_id="key_1"), 1000, 1)
    (lease,) = await claimed(store, {LANE: 1}, 1000.0)
    await store.start(lease, "p", "n", "m")
    with pytest.raises(QuotaExceeded):
        await store.create(a_job(key_id="key_1"), 1000, 1)
    await store.cancel(one.id)
    two, _ = await store.create(a_job(key_id="key_1"), 1000, 1)
    (lease,) = await claimed(store, {LANE: 1}, 1000.0)
    await store.start(lease, "p", "n", "m")
    await store.finish(lease, DONE)
    await store.create(a_job(key_id="key_1"), 1000, 1)
    assert two.request.key_id == "key_1"


async def test_a_repeated_idempotency_key_needs_no_room(store: Store) -> None:
    job, _ = await store.create(a_job(key_id="key_1", idempotency_key="k", payload_hash="h"), 1000, 1)
    again, is_new = await store.create(a_job(key_id="key_1", idempotency_key="k", payload_hash="h"), 1000, 1)
    assert (again.id, is_new) == (job.id, False)
