"""Followers: replay and live without gap or repeat, whatever the moment they join; live output; nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from scripted import LANE, ORGANIZATION, a_job, claimed

from protos.errors import NotFound
from protos.types import OrganizationId, Preview
from router.events import TAIL, Feed, LiveOutput
from router.jobs import EventKind, Job, JobEvent, JobId, JobState
from router.store.base import Ending, Lease
from router.store.sql import SqlStore

DONE = Ending(state=JobState.COMPLETED)
STEPS = 40


@pytest.fixture
def feeds() -> list[Feed]:
    """The feeds that the store rings; `make_feed` adds to them."""
    return []


@pytest.fixture
async def store(feeds: list[Feed]) -> AsyncIterator[SqlStore]:
    def ring(events: Sequence[JobEvent]) -> None:
        for feed in feeds:
            feed.ring(events)

    async with asyncio.timeout(60):
        store = SqlStore("sqlite://", ring)
        await store.open()
        yield store
        await store.close()


@pytest.fixture
def make_feed(store: SqlStore, feeds: list[Feed]) -> Callable[..., Feed]:
    def make(heartbeat_s: float = 60.0) -> Feed:
        feeds.append(Feed(store, heartbeat_s))
        return feeds[-1]

    return make


@pytest.fixture
def feed(make_feed: Callable[..., Feed]) -> Feed:
    return make_feed()


async def begin(store: SqlStore, **changes: object) -> Lease:
    await store.create(a_job(**changes), 1000)
    (lease,) = await claimed(store, {LANE: 1}, 60.0)
    return lease


async def live(store: SqlStore, lease: Lease, feed: Feed) -> None:
    """A job's life, with an event at each step."""
    await store.start(lease, "p", "n", "m")
    for step in range(STEPS):
        await store.append(lease, EventKind.PROGRESS, {"progress": step / STEPS})
        feed.publish_text(lease.job.id, f"{step} ")
    await store.finish(lease, DONE)
    feed.drop_output(lease.job.id)


async def collected(feed: Feed, job_id: JobId, after: int = 0) -> list[int]:
    return [event.seq async for event in feed.follow_job(job_id, after) if isinstance(event, JobEvent)]


async def test_an_ended_job_is_replayed_and_the_stream_ends(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    await live(store, lease, feed)
    seen = [event async for event in feed.follow_job(lease.job.id)]
    assert seen == list(await store.events_of_job(lease.job.id, 0, 1000))
    assert isinstance(seen[-1], JobEvent)
    assert seen[-1].is_terminal
    assert feed.topics == 0


async def test_followers_who_join_at_any_moment_get_each_event_once(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    followers = []

    async def join() -> None:
        for number in range(60):
            followers.append(asyncio.create_task(collected(feed, lease.job.id, number % 7)))
            await asyncio.sleep(0)
            await store.get(lease.job.id)  # spreads them over the job's life

    await asyncio.gather(join(), live(store, lease, feed))
    results = await asyncio.gather(*followers)
    last = STEPS + 3
    assert results == [list(range(number % 7 + 1, last + 1)) for number in range(60)]
    assert feed.topics == 0


async def test_a_resumed_follower_gets_what_came_after(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    await live(store, lease, feed)
    assert await collected(feed, lease.job.id, STEPS) == [STEPS + 1, STEPS + 2, STEPS + 3]
    assert await collected(feed, lease.job.id, STEPS + 3) == []
    assert await collected(feed, lease.job.id, 10_000) == []


async def test_a_long_history_is_replayed_whole(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    await asyncio.gather(*(store.append(lease, EventKind.PROGRESS, {"progress": 0.0}) for _ in range(450)))
    await store.cancel(lease.job.id)
    assert await collected(feed, lease.job.id) == list(range(1, 453))


async def test_nobodys_job_is_not_found_and_leaves_nothing(feed: Feed) -> None:
    with pytest.raises(NotFound, match="job_nobody"):
        await anext(feed.follow_job(JobId("job_nobody")))
    assert feed.topics == 0


async def test_a_silent_job_gives_heartbeats(store: SqlStore, make_feed: Callable[..., Feed]) -> None:
    feed = make_feed(0.001)
    lease = await begin(store)
    follower = feed.follow_job(lease.job.id)
    seen = [await anext(follower) for _ in range(3)]
    assert [event is None for event in seen] == [False, True, True]
    await store.cancel(lease.job.id)
    rest = [event async for event in follower]
    assert isinstance(rest[-1], JobEvent)
    assert rest[-1].kind is EventKind.CANCELLED


async def test_a_follower_that_leaves_is_forgotten(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    follower = feed.follow_job(lease.job.id)
    await anext(follower)
    assert feed.topics == 1
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator
    assert feed.topics == 0


# ---- an organization's stream ----


async def take(feed: Feed, after: int | None, count: int, ready: asyncio.Event) -> Sequence[int]:
    positions: list[int] = []
    follower = feed.follow_organization(ORGANIZATION, after)
    ready.set()
    async for events in follower:
        assert events
        positions.extend(event.position for event in events)
        if len(positions) >= count:
            break
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator
    return positions


async def test_an_organizations_followers_miss_and_repeat_nothing(store: SqlStore, feed: Feed) -> None:
    async def join(number: int) -> Sequence[int]:
        for _ in range(number):
            await store.last_position(ORGANIZATION)
        return await take(feed, number, 100 - number, asyncio.Event())

    async def create() -> None:
        for _ in range(10):
            await asyncio.gather(*(store.create(a_job(), 1000) for _ in range(10)))

    *results, _ = await asyncio.gather(*(join(number) for number in range(40)), create())
    assert results == [list(range(number + 1, 101)) for number in range(40)]


async def test_without_a_cursor_an_organizations_stream_starts_live(store: SqlStore, feed: Feed) -> None:
    await store.create(a_job(), 1000)
    await store.create(a_job(organization_id=OrganizationId("other")), 1000)
    follower = feed.follow_organization(ORGANIZATION, None)
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    await store.last_position(ORGANIZATION)  # behind the follower's own: one reader after the other
    await store.last_position(ORGANIZATION)
    await store.create(a_job(), 1000)
    assert [event.position for event in await first] == [2]
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator


# ---- live output ----


async def texts(feed: Feed, job: Job) -> str:
    pieces = [event async for event in feed.follow_job(job.id, include_output=True)]
    assert isinstance(pieces[-1], JobEvent)
    assert pieces[-1].is_terminal
    return "".join(piece.piece["text"] for piece in pieces if isinstance(piece, LiveOutput))


async def test_output_comes_whole_whenever_one_joins_and_ends_before_the_terminal_event(
    store: SqlStore, feed: Feed
) -> None:
    lease = await begin(store)
    followers = [asyncio.create_task(texts(feed, lease.job)) for _ in range(5)]

    async def join() -> None:
        for _ in range(20):
            followers.append(asyncio.create_task(texts(feed, lease.job)))
            await store.get(lease.job.id)

    await asyncio.gather(join(), live(store, lease, feed))
    whole = "".join(f"{step} " for step in range(STEPS))
    results = set(await asyncio.gather(*followers))
    assert results <= {whole, ""}  # "": joined after the end, when the text is in the job's output
    assert whole in results
    assert feed.topics == 0


async def test_the_first_piece_of_a_late_listener_is_all_so_far(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    await store.start(lease, "p", "n", "m")
    for word in ("one ", "two "):
        feed.publish_text(lease.job.id, word)
    follower = feed.follow_job(lease.job.id, include_output=True)
    _created, _started, piece = [await anext(follower) for _ in range(3)]
    assert piece == LiveOutput(lease.job.id, {"text": "one two "})
    feed.publish_text(lease.job.id, "three")
    assert await anext(follower) == LiveOutput(lease.job.id, {"text": "three"})
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator
    assert feed.topics == 1
    feed.drop_output(lease.job.id)
    assert feed.topics == 0


async def test_text_that_comes_while_the_start_is_being_stored_comes_after_it(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    follower = feed.follow_job(lease.job.id, include_output=True)
    await anext(follower)
    waiting = asyncio.ensure_future(anext(follower))
    await store.get(lease.job.id)  # behind the follower's own look: it waits for its doorbell now
    feed.publish_text(lease.job.id, "early")
    await store.start(lease, "p", "n", "m")
    started, piece = await waiting, await anext(follower)
    assert isinstance(started, JobEvent)
    assert (started.kind, piece) == (EventKind.STARTED, LiveOutput(lease.job.id, {"text": "early"}))
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator
    feed.drop_output(lease.job.id)


async def test_output_is_not_sent_to_those_who_did_not_ask(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    feed.publish_text(lease.job.id, "secret")
    await store.cancel(lease.job.id)
    assert all(isinstance(event, JobEvent) for event in [event async for event in feed.follow_job(lease.job.id)])


def a_preview(index: int, data: bytes) -> Preview:
    return Preview(index, data, "image/png")


def shown(index: int, text: str) -> dict[str, object]:
    return {"preview": {"index": index, "data": text, "content_type": "image/png"}}


async def test_a_late_listener_gets_the_latest_picture_of_each(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    await store.start(lease, "p", "n", "m")
    for index, data in ((0, b"rough"), (1, b"other"), (0, b"finer")):
        feed.publish_preview(lease.job.id, a_preview(index, data))
    follower = feed.follow_job(lease.job.id, include_output=True)
    _, _, *pieces = [await anext(follower) for _ in range(4)]
    assert [piece.piece for piece in pieces if isinstance(piece, LiveOutput)] == [
        shown(0, "ZmluZXI="),
        shown(1, "b3RoZXI="),
    ]
    feed.publish_preview(lease.job.id, a_preview(1, b"more"))
    assert await anext(follower) == LiveOutput(lease.job.id, shown(1, "bW9yZQ=="))
    await follower.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_a_follower_of_many_events_at_once_falls_back_to_the_store(store: SqlStore, feed: Feed) -> None:
    lease = await begin(store)
    follower = feed.follow_job(lease.job.id)
    await anext(follower)
    waiting = asyncio.ensure_future(anext(follower))
    await store.get(lease.job.id)  # behind the follower's own look: it waits for its doorbell now
    await asyncio.gather(*(store.append(lease, EventKind.PROGRESS, {"progress": 0.0}) for _ in range(TAIL + 50)))
    await store.cancel(lease.job.id)
    seen = [await waiting] + [event async for event in follower]
    assert [event.seq for event in seen if isinstance(event, JobEvent)] == list(range(2, TAIL + 53))


async def test_what_another_router_wrote_between_is_read(store: SqlStore, feed: Feed, feeds: list[Feed]) -> None:
    lease = await begin(store)
    follower = feed.follow_job(lease.job.id)
    await anext(follower)
    waiting = asyncio.ensure_future(anext(follower))
    await store.get(lease.job.id)
    feeds.clear()  # nobody rings for this one
    await store.append(lease, EventKind.PROGRESS, {"progress": 0.1})
    feeds.append(feed)
    await store.cancel(lease.job.id)
    seen = [await waiting] + [event async for event in follower]
    assert seen == list(await store.events_of_job(lease.job.id, 1, 10))
    assert len(seen) == 2
