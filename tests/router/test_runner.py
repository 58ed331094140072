"""Jobs from the store through a provider to their end: what is retried, what is not, and what a shutdown leaves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attached import assets_in, attachments_of
from scripted import MODEL, ORGANIZATION, STARTED, ManualClock, Scripted, a_job, claimed, said

from protos.errors import (
    Cancelled,
    FabricError,
    InputInvalid,
    JobTerminal,
    LoadFailed,
    ModelNotFound,
    NodeUnavailable,
    NotFound,
    Overloaded,
)
from protos.types import Modality, Progress, Queued, TextDelta, Tier
from providers.base import Health, Offer
from providers.echo import Echo
from providers.registry import ProviderRegistry
from router.events import Feed, LiveOutput
from router.jobs import EventKind, Job, JobEvent, JobId, JobState
from router.retries import RetryPolicy
from router.runner import Runner, RunnerSettings
from router.store.sql import SqlStore

SETTINGS = RunnerSettings(retries=RetryPolicy(backoff_s=10.0), poll_s=60.0)


@dataclass
class Rig:
    """A router's core around one scripted place, on a clock that the test moves."""

    store: SqlStore
    feed: Feed
    runner: Runner
    place: Scripted
    clock: ManualClock

    async def submit(self, **changes: object) -> JobId:
        job, _ = await self.store.create(a_job(**changes), 1000)
        self.runner.wake()
        return job.id

    async def ended(self, job_id: JobId) -> Job:
        async for _ in self.feed.follow_job(job_id):
            pass
        job = await self.store.get(job_id)
        assert job is not None
        return job

    async def seen(self, job_id: JobId, kind: EventKind) -> JobEvent:
        async for event in self.feed.follow_job(job_id):
            if isinstance(event, JobEvent) and event.kind is kind:
                return event
        raise AssertionError(f"{job_id} ended without {kind}")

    async def run(self, **changes: object) -> Job:
        return await self.ended(await self.submit(**changes))

    async def kinds(self, job_id: JobId) -> list[EventKind]:
        return [event.kind for event in await self.store.events_of_job(job_id, 0, 100)]

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.runner.wake()


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    """Makes the rig around a place; the runner runs."""
    stores: list[SqlStore] = []
    runners: list[Runner] = []
    feeds: list[Feed] = []

    def ring(events: Sequence[JobEvent]) -> None:
        feeds[-1].ring(events)

    async def make(
        place: Scripted, settings: RunnerSettings = SETTINGS, others: Sequence[object] = (), url: str = "sqlite://"
    ) -> Rig:
        clock = ManualClock()
        store = SqlStore(url, ring, clock)
        feeds.append(Feed(store))
        await store.open()
        stores.append(store)
        attachments = attachments_of(assets_in(tmp_path, store, clock), clock)
        places = ProviderRegistry([place, *others])
        runner = Runner(store, feeds[-1], places, settings, clock, attachments=attachments, jitter=lambda: 1.0)
        runners.append(runner)
        runner.start()
        return Rig(store, feeds[-1], runner, place, clock)

    async with asyncio.timeout(60):
        yield make
        for runner in runners:
            await runner.close()
        for store in stores:
            await store.close()


Build = Callable[..., AsyncIterator[Rig]]


async def test_a_job_runs_to_its_result(build: Build) -> None:
    rig = await build(Scripted([Queued(0), STARTED, TextDelta("7"), said("7")]))
    job = await rig.run()
    assert (job.state, job.output) == (JobState.COMPLETED, {"text": "7", "finish_reason": "stop"})
    assert (job.provider_id, job.node_id, job.model, job.attempts) == ("scripted", "node-1", MODEL, 1)
    assert job.usage is not None
    assert job.usage.input_tokens == 2
    assert await rig.kinds(job.id) == [EventKind.CREATED, EventKind.STARTED, EventKind.COMPLETED]
    assert rig.place.closed == []


async def test_the_shipped_echo_answers_when_named(build: Build) -> None:
    rig = await build(Scripted(), others=[Echo()])
    job = await rig.run(model="echo", modality=Modality.EMBEDDING, input={"texts": ["a", "b"]})
    assert (job.state, job.provider_id) == (JobState.COMPLETED, "echo")
    assert job.output is not None
    assert len(job.output["embeddings"]) == 2


async def test_hundreds_of_jobs_each_run_once(build: Build) -> None:
    rig = await build(Scripted(max_batch=8))
    ids = await asyncio.gather(*(rig.submit() for _ in range(300)))
    jobs = await asyncio.gather(*(rig.ended(job_id) for job_id in ids))
    assert {job.state for job in jobs} == {JobState.COMPLETED}
    assert set(rig.place.calls.values()) == {1}
    assert rig.runner.running == 0


async def test_a_place_gets_twice_its_batch_and_no_more(build: Build) -> None:
    hold = asyncio.Event()
    rig = await build(Scripted([STARTED, hold, said("ok")], max_batch=3))
    ids = [await rig.submit() for _ in range(10)]
    for job_id in ids[:6]:
        await rig.seen(job_id, EventKind.STARTED)
    await claimed(rig.store, {}, 10.0)  # behind the runner's own claims
    assert rig.place.most_at_once == 6
    hold.set()
    for job_id in ids:
        await rig.ended(job_id)
    assert rig.place.most_at_once == 6


# ---- what is wrong with the job ----


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"input": {}}, "input_validation_failed", "exactly one of prompt, messages"),
        ({"model": "nobody"}, "model_not_found", "name one of the text models: parrot"),
        ({"modality": Modality.IMAGE, "input": {"prompt": "x"}}, "no_provider", "has no default model for image"),
        ({"tier": Tier.PREMIUM}, "no_provider", "is of tier basic, premium was asked for"),
    ],
)
async def test_a_job_that_cannot_be_served_fails_with_the_reason(
    build: Build, changes: dict[str, object], code: str, says: str
) -> None:
    rig = await build(Scripted())
    job = await rig.run(**changes)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == code
    assert says in job.error["message"]
    assert rig.place.order == []


@pytest.mark.parametrize("error", [InputInvalid.at("input.prompt", "is too long"), ModelNotFound("gone")])
async def test_an_error_that_stays_fails_the_job_at_once(build: Build, error: FabricError) -> None:
    rig = await build(Scripted([Queued(0), error]))
    job = await rig.run()
    assert job.error == {"code": error.code, "message": error.message}
    assert rig.place.calls[job.id] == 1


async def test_a_defect_becomes_a_failed_job(build: Build) -> None:
    rig = await build(Scripted([STARTED, ZeroDivisionError("division by zero")]))
    job = await rig.run()
    assert job.error is not None
    assert job.error["code"] == "internal"
    assert "division by zero" in job.error["message"]


async def test_a_run_without_a_result_is_a_defect(build: Build) -> None:
    rig = await build(Scripted([STARTED]))
    job = await rig.run()
    assert job.error is not None
    assert "without a result" in job.error["message"]


async def test_a_task_cancelled_at_the_node_ends_the_job_as_cancelled(build: Build) -> None:
    rig = await build(Scripted([STARTED, Cancelled("by the operator")]))
    assert (await rig.run()).state is JobState.CANCELLED


async def test_a_job_that_outlasts_its_timeout_fails(build: Build) -> None:
    rig = await build(Scripted([STARTED, asyncio.Event()]))
    job = await rig.run(timeout_s=1.0)  # in which it begins, also on a slow machine
    assert job.error is not None
    assert (job.error["code"], job.attempts) == ("deadline_exceeded", 1)
    assert rig.place.closed == [job.id]


# ---- what is wrong with the place ----


async def test_a_job_whose_node_died_is_run_again_after_the_backoff(build: Build) -> None:
    rig = await build(Scripted([STARTED, NodeUnavailable("it died")], [STARTED, said("ok")]))
    job_id = await rig.submit()
    retrying = await rig.seen(job_id, EventKind.RETRYING)
    assert retrying.payload["cause"] == {"code": "node_unavailable", "message": "it died"}
    assert retrying.payload["not_before"] == rig.clock.now + 10.0
    assert rig.place.calls[job_id] == 1
    rig.pass_time(10.0)
    job = await rig.ended(job_id)
    assert (job.state, job.attempts) == (JobState.COMPLETED, 2)


async def test_attempts_are_bounded_and_the_end_names_the_last_cause(build: Build) -> None:
    rig = await build(Scripted([STARTED, NodeUnavailable("it died again")]))
    job_id = await rig.submit()
    for attempt in range(1, 5):
        async for event in rig.feed.follow_job(job_id, after=attempt + 1):
            assert isinstance(event, JobEvent)
            assert event.kind is EventKind.RETRYING
            break
        rig.pass_time(1000.0)
    job = await rig.ended(job_id)
    assert job.error is not None
    assert (job.error["code"], job.attempts) == ("attempts_exhausted", 5)
    assert "it died again" in job.error["message"]


async def test_a_full_node_leaves_the_job_pending_however_often_it_refuses(build: Build) -> None:
    refusals = [[Overloaded("full")]] * 8
    rig = await build(Scripted(*refusals, [STARTED, said("ok")]), RunnerSettings(retries=RetryPolicy(backoff_s=0.0)))
    job = await rig.run()
    assert (job.state, job.attempts) == (JobState.COMPLETED, 1)
    assert await rig.kinds(job.id) == [EventKind.CREATED, EventKind.STARTED, EventKind.COMPLETED]


async def test_a_model_that_never_loads_ends_the_job(build: Build) -> None:
    rig = await build(Scripted([LoadFailed("bad file")]), RunnerSettings(retries=RetryPolicy(backoff_s=0.0)))
    job = await rig.run()
    assert job.error is not None
    assert job.error["code"] == "attempts_exhausted"
    assert "bad file" in job.error["message"]
    assert rig.place.calls[job.id] == 5


async def test_the_next_place_has_its_turn_when_one_refuses_before_the_start(build: Build) -> None:
    second = Scripted([STARTED, said("from the second")], provider_id="second")
    rig = await build(Scripted([NodeUnavailable("gone")]), others=[second])
    job = await rig.run()
    assert (job.state, job.provider_id, job.attempts) == (JobState.COMPLETED, "second", 1)


async def test_a_job_waits_for_a_node_that_still_starts(build: Build) -> None:
    place = Scripted()
    offers, place.offers, place.health = place.offers, (), Health(status="unavailable")
    rig = await build(place)
    named, default = await rig.submit(model=str(MODEL)), await rig.submit()
    await claimed(rig.store, {}, 1.0)  # behind the runner's own look at the queue
    assert {job.state for job in [await rig.store.get(named), await rig.store.get(default)] if job} == {
        JobState.PENDING
    }
    place.offers, place.health = offers, Health(status="healthy")
    rig.runner.wake()
    assert (await rig.ended(named)).state is JobState.COMPLETED
    assert (await rig.ended(default)).state is JobState.COMPLETED


async def test_a_job_waits_for_a_place_that_is_down_and_another_lane_goes_on(build: Build) -> None:
    other = Scripted(provider_id="other")
    other.offers = (Offer(model="other", modality=Modality.TEXT, max_batch=2),)
    place = Scripted()
    place.health = Health(status="unavailable", reason="no status for 3 s")
    rig = await build(place, others=[other])
    waits = await rig.submit()
    assert (await rig.run(model="other")).state is JobState.COMPLETED
    assert await rig.kinds(waits) == [EventKind.CREATED]
    place.health = Health(status="healthy")
    rig.runner.wake()
    assert (await rig.ended(waits)).state is JobState.COMPLETED


# ---- output, progress, cancel ----


async def test_text_is_followed_live_and_forgotten_at_the_end(build: Build) -> None:
    middle = asyncio.Event()
    rig = await build(
        Scripted([STARTED, TextDelta("one "), TextDelta("two "), middle, TextDelta("three"), said("all")])
    )
    job_id = await rig.submit()
    pieces = []
    async for event in rig.feed.follow_job(job_id, include_output=True):
        if isinstance(event, LiveOutput):
            pieces.append(event.piece["text"])
            if "".join(pieces) == "one two ":
                middle.set()
    assert "".join(pieces) == "one two three"
    assert rig.feed.topics == 0


async def test_output_of_a_second_attempt_says_that_it_begins_again(build: Build) -> None:
    rig = await build(
        Scripted(
            [STARTED, TextDelta("lost"), asyncio.Event(), NodeUnavailable("gone")],
            [STARTED, TextDelta("kept"), said("")],
        )
    )
    job_id = await rig.submit()
    pieces = []
    async for event in rig.feed.follow_job(job_id, include_output=True):
        if isinstance(event, LiveOutput):
            pieces.append(event.piece)
            if len(pieces) == 1:
                next(step for step in rig.place.plans[0] if isinstance(step, asyncio.Event)).set()
        elif event is not None and event.kind is EventKind.RETRYING:
            rig.pass_time(1000.0)
    assert pieces == [{"text": "lost"}, {"text": "kept", "restart": True}]


async def test_progress_is_stored_but_not_every_step_of_it(build: Build) -> None:
    steps = [Progress(step / 10, step, 10) for step in range(1, 10)]
    rig = await build(Scripted([STARTED, *steps, said("ok")]))
    job = await rig.run()
    events = await rig.store.events_of_job(job.id, 0, 100)
    assert [event.payload for event in events if event.kind is EventKind.PROGRESS] == [
        {"progress": 0.1, "step": 1, "steps": 10}
    ]
    assert job.progress == 1.0


async def submit_until(rig: Rig, deadline_s: float) -> JobId:
    job, _ = await rig.store.create(replace(a_job(deadline_s=deadline_s), created_at=rig.clock.now), 1000)
    rig.runner.wake()
    return job.id


async def test_a_deadline_ends_a_job_that_has_no_seat_yet(build: Build) -> None:
    rig = await build(Scripted([Queued(3), asyncio.Event()]))
    job = await rig.ended(await submit_until(rig, 1.0))  # in which it gets to its place, also on a slow machine
    assert job.error is not None
    assert (job.state, job.attempts, job.error["code"]) == (JobState.FAILED, 0, "deadline_exceeded")
    assert job.error["message"].startswith(f"job {job.id} still waited when its deadline_s was over")
    assert rig.place.closed == [job.id]


async def test_a_job_that_has_its_seat_may_end_after_its_deadline(build: Build) -> None:
    hold = asyncio.Event()
    rig = await build(Scripted([STARTED, hold, said("late")]), RunnerSettings(lease_s=5000.0))
    job_id = await submit_until(rig, 500.0)
    await rig.seen(job_id, EventKind.STARTED)
    rig.pass_time(1000.0)
    await claimed(rig.store, {}, 10.0)  # would fail it if it still waited
    hold.set()
    assert (await rig.ended(job_id)).state is JobState.COMPLETED


async def test_a_started_event_tells_why_it_went_there(build: Build) -> None:
    rig = await build(Scripted(), others=[Echo()])
    job = await rig.run()
    (started,) = [e for e in await rig.store.turning_points(job.id) if e.kind is EventKind.STARTED]
    assert started.payload["reason"].startswith(f"serves {MODEL}")
    assert [each["provider_id"] for each in started.payload["skipped"]] == ["echo"]


async def test_cancel_ends_a_running_job_and_its_task(build: Build) -> None:
    rig = await build(Scripted([STARTED, asyncio.Event()]))
    job_id = await rig.submit()
    await rig.seen(job_id, EventKind.STARTED)
    assert (await rig.runner.cancel(job_id)).state is JobState.CANCELLED
    await rig.runner.close()
    assert rig.place.closed == [job_id]
    assert (await rig.kinds(job_id))[-1] is EventKind.CANCELLED
    with pytest.raises(JobTerminal):
        await rig.runner.cancel(job_id)


async def test_cancel_of_nobody_is_not_found(build: Build) -> None:
    rig = await build(Scripted())
    with pytest.raises(NotFound):
        await rig.runner.cancel(JobId("job_nobody"))


async def test_a_lost_lease_ends_the_run_in_silence(build: Build) -> None:
    rig = await build(Scripted([STARTED, asyncio.Event()]), RunnerSettings(lease_s=0.03))
    job_id = await rig.submit()
    await rig.seen(job_id, EventKind.STARTED)
    await rig.store.cancel(job_id)  # as another router would: the next renewal finds out
    await rig.place.has_closed.wait()
    assert rig.place.closed == [job_id]
    assert (await rig.kinds(job_id))[-1] is EventKind.CANCELLED


# ---- shutdown ----


async def test_a_shutdown_gives_running_jobs_back_without_a_penalty(build: Build) -> None:
    rig = await build(Scripted([STARTED, asyncio.Event()]))
    ids = [await rig.submit() for _ in range(3)]
    for job_id in ids:
        await rig.seen(job_id, EventKind.STARTED)
    await rig.runner.close()
    assert sorted(rig.place.closed) == sorted(ids)
    leases = await claimed(rig.store, {"default:text": 9}, 10.0)
    assert [(lease.job.id, lease.job.attempts) for lease in leases] == [(job_id, 0) for job_id in ids]


async def test_a_job_that_was_begun_as_often_as_it_may_be_is_not_begun_again(build: Build, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    rig = await build(Scripted(), RunnerSettings(retries=RetryPolicy(max_attempts=1)), url=url)
    await rig.runner.close()
    job_id = await rig.submit()
    (lease,) = await claimed(rig.store, {"default:text": 1}, 10.0)
    await rig.store.start(lease, "a", "b", "c")
    await rig.store.close()  # as if killed: nothing is released
    again = await build(Scripted(), RunnerSettings(retries=RetryPolicy(max_attempts=1)), url=url)
    job = await again.ended(job_id)
    assert job.error is not None
    assert job.error["code"] == "attempts_exhausted"
    assert again.place.order == []
    assert job.request.organization_id == ORGANIZATION
