"""Who follows a job or an organization gets its stored events, replayed and then live, and a job's output as it is made.

A follower holds a cursor and a doorbell, never events: rung, it takes what is after its cursor, from the tail of events
that all followers share, or from the store when it is further behind. So nothing can fall between replay and live or
come twice, and a slow reader costs nothing. Not about SSE (api/events.py).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from protos.types import OrganizationId, Preview
from router.jobs import TERMINAL, EventKind, Job, JobEvent, JobId, JobState, Json, unknown_job
from router.outputs import OutputCursor, OutputSoFar
from router.store.base import Store

PAGE: Final = 200  # events that one read of the store brings
TAIL: Final = 256  # latest events kept for those who keep up: a second's worth when it is busy
POLL_S: Final = 15.0  # a follower looks without being rung: another router on the same database may have written

ReadStored = Callable[[int], Awaitable[Sequence[JobEvent]]]  # those after a number, at most PAGE


@dataclass(frozen=True, slots=True)
class LiveOutput:
    """Output of a job that runs, as it is made; never stored. The first piece that a follower gets has all so far.

    `piece` is {"text": ...}, with "index" where it is not of the first of several answers, and {"text": ..., "restart":
    True} when a new attempt begins again: drop what came before, of all answers;
    or {"preview": {"index", "data", "content_type"}} with a picture on its way, in base64.
    """

    job_id: JobId
    piece: Json


class _Tail:
    """The latest events, numbered without a gap."""

    def __init__(self) -> None:
        self._events: deque[JobEvent] = deque(maxlen=TAIL)
        self._last = 0

    def add(self, number: int, event: JobEvent) -> None:
        if number != self._last + 1:  # somebody else wrote what is between: it has to be read
            self._events.clear()
        self._events.append(event)
        self._last = number

    def after(self, cursor: int) -> Sequence[JobEvent] | None:
        """None: some of them are not here."""
        missed = self._last - cursor
        if missed > len(self._events):
            return None
        return list(islice(self._events, len(self._events) - missed, None)) if missed > 0 else []


@dataclass(slots=True)
class _Channel:
    """The followers of one job or organization, and what they share."""

    doorbells: set[asyncio.Event] = field(default_factory=set)
    tail: _Tail = field(default_factory=_Tail)

    def ring(self) -> None:
        for doorbell in self.doorbells:
            doorbell.set()


@dataclass(slots=True)
class _Topic(_Channel):
    """A job's channel, and the output that its running attempt has made so far."""

    output: OutputSoFar = field(default_factory=OutputSoFar)


class Feed:
    """The doorbells. Lives on one event loop."""

    def __init__(self, store: Store, heartbeat_s: float = 15.0) -> None:
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._topics: dict[JobId, _Topic] = {}
        self._organizations: dict[OrganizationId, _Channel] = {}

    def ring(self, events: Sequence[JobEvent]) -> None:
        """Wakes the followers of these events. Called on the event loop after each commit, in the order of commits."""
        rung: dict[int, _Channel] = {}
        for event in events:
            organization, topic = self._organizations.get(event.organization_id), self._topics.get(event.job_id)
            if organization is not None:
                organization.tail.add(event.position, event)
                rung[id(organization)] = organization
            if topic is not None:
                topic.tail.add(event.seq, event)
                rung[id(topic)] = topic
                if event.is_terminal:
                    del self._topics[event.job_id]  # its followers keep it until they have read it
        for channel in rung.values():
            channel.ring()

    def publish_text(self, job_id: JobId, text: str, answer: int = 0) -> None:
        """Adds to the output of the running attempt. The caller ends the attempt with `drop_output`."""
        topic = self._topics.setdefault(job_id, _Topic())
        topic.output.add_text(text, answer)
        topic.ring()

    def publish_preview(self, job_id: JobId, preview: Preview) -> None:
        """Shows a picture on its way, in the place of the one before it. As `publish_text`."""
        topic = self._topics.setdefault(job_id, _Topic())
        topic.output.show(preview)
        topic.ring()

    def drop_output(self, job_id: JobId) -> None:
        """Forgets the output of an attempt that is over, however it ended."""
        topic = self._topics.get(job_id)
        if topic is not None:
            topic.output.drop()
            self._forget_idle(job_id, topic)

    @property
    def topics(self) -> int:
        """Jobs that are followed or have live output now."""
        return len(self._topics)

    async def follow_job(
        self, job_id: JobId, after: int = 0, *, include_output: bool = False
    ) -> AsyncIterator[JobEvent | LiveOutput | None]:
        """The events with a sequence over `after`, stored ones first, then live; None when a heartbeat is due. Ends
        after the terminal event. Raises NotFound."""
        with self._following_job(job_id) as (topic, doorbell):
            job = await self._store.get(job_id)  # before the events: of a job that has ended they are complete
            if job is None:
                raise unknown_job(job_id)
            output, reader = _Pieces(topic.output, job, wanted=include_output), self._reader(topic, doorbell, after)
            while True:
                output.look()  # before the events that they come after
                events = await reader.take(lambda after: self._store.events_of_job(job_id, after, PAGE))
                for event in events:
                    if event.is_terminal:
                        for piece in output.rest():
                            yield piece
                        yield event
                        return
                    output.see(event)
                    yield event
                for piece in output.ready():
                    yield piece
                if not events and job.state in TERMINAL:
                    return
                if events:
                    reader.cursor = events[-1].seq
                elif await reader.is_heartbeat_due():
                    yield None

    async def follow_organization(
        self, organization_id: OrganizationId, after: int | None
    ) -> AsyncIterator[Sequence[JobEvent]]:
        """The events with a position over `after` (None: those from now on), without end: all at once that there are, a
        commit's or a page; none when a heartbeat is due."""
        with self._following_organization(organization_id) as (channel, doorbell):
            cursor = await self._store.last_position(organization_id) if after is None else after
            reader = self._reader(channel, doorbell, cursor)
            while True:
                events = await reader.take(
                    lambda after: self._store.events_of_organization(organization_id, after, PAGE)
                )
                if events:
                    yield events
                    reader.cursor = events[-1].position
                elif await reader.is_heartbeat_due():
                    yield ()

    def _reader(self, channel: _Channel, doorbell: asyncio.Event, cursor: int) -> "_Reader":
        return _Reader(channel.tail, doorbell, cursor, self._heartbeat_s)

    @contextmanager
    def _following_job(self, job_id: JobId) -> Iterator[tuple[_Topic, asyncio.Event]]:
        topic, doorbell = self._topics.setdefault(job_id, _Topic()), asyncio.Event()
        topic.doorbells.add(doorbell)
        try:
            yield topic, doorbell
        finally:
            topic.doorbells.discard(doorbell)
            self._forget_idle(job_id, topic)

    @contextmanager
    def _following_organization(self, organization_id: OrganizationId) -> Iterator[tuple[_Channel, asyncio.Event]]:
        channel, doorbell = self._organizations.setdefault(organization_id, _Channel()), asyncio.Event()
        channel.doorbells.add(doorbell)
        try:
            yield channel, doorbell
        finally:
            channel.doorbells.discard(doorbell)
            if not channel.doorbells:
                del self._organizations[organization_id]

    def _forget_idle(self, job_id: JobId, topic: _Topic) -> None:
        if not topic.doorbells and topic.output.is_empty and self._topics.get(job_id) is topic:
            del self._topics[job_id]


class _Pieces:
    """The live output for one follower: none before the job's start, which may still be on its way to the disk."""

    def __init__(self, output: OutputSoFar, job: Job, *, wanted: bool) -> None:
        self._job_id, self._cursor = job.id, OutputCursor(output) if wanted else None
        self._has_started = job.state is not JobState.PENDING
        self._held: list[LiveOutput] = []

    def look(self) -> None:
        if self._cursor is not None:
            self._held += [LiveOutput(self._job_id, piece) for piece in self._cursor.take()]

    def see(self, event: JobEvent) -> None:
        self._has_started = self._has_started or event.kind is EventKind.STARTED

    def ready(self) -> Sequence[LiveOutput]:
        if not self._has_started:
            return ()
        ready, self._held = self._held, []
        return ready

    def rest(self) -> Sequence[LiveOutput]:
        """All that is left at the end of the job."""
        self.look()
        return self._held


class _Reader:
    """One follower's cursor. It waits for its doorbell, and knows when it was silent for long enough to say so."""

    def __init__(self, tail: _Tail, doorbell: asyncio.Event, cursor: int, heartbeat_s: float) -> None:
        self.cursor = cursor
        self._tail, self._doorbell, self._heartbeat_s = tail, doorbell, heartbeat_s
        self._heartbeat_at = asyncio.get_running_loop().time() + heartbeat_s
        self._is_rung = False  # the first look is the store's: what was before is in no tail

    async def take(self, read: ReadStored) -> Sequence[JobEvent]:
        """What is after the cursor, or the first part of it; empty: nothing."""
        self._doorbell.clear()
        known = self._tail.after(self.cursor) if self._is_rung else None
        return await read(self.cursor) if known is None else known

    async def is_heartbeat_due(self) -> bool:
        """Returns when the doorbell rings, or it is time to look anyway, or, True, to send a heartbeat."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(self._heartbeat_at, loop.time() + POLL_S)):
                await self._doorbell.wait()
            self._is_rung = True
        except TimeoutError:
            self._is_rung = False
        if loop.time() < self._heartbeat_at:
            return False
        self._heartbeat_at = loop.time() + self._heartbeat_s
        return True
