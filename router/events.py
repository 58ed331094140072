"""Who follows a job or an organization gets its stored events, replayed and then live, and a job's output as it is made.

A follower holds a cursor and a doorbell, never events: rung, it reads the store from its cursor on. So nothing can fall
between replay and live or come twice, and a slow reader costs nothing. Not about SSE (api/events.py).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from protos.types import OrganizationId
from router.jobs import TERMINAL, JobEvent, JobId, Json, unknown_job
from router.store.base import Store

PAGE: Final = 200  # events that one read of the store brings
POLL_S: Final = 5.0  # a follower looks without being rung: another router on the same database may have written


@dataclass(frozen=True, slots=True)
class LiveOutput:
    """Output of a job that runs, as it is made; never stored. The first piece that a follower gets has all so far.

    `piece` is {"text": ...}, and {"text": ..., "restart": True} when a new attempt begins again: drop what came before.
    """

    job_id: JobId
    piece: Json


@dataclass(slots=True)
class _Topic:
    """The followers of one job and the text that its running attempt has made so far."""

    doorbells: set[asyncio.Event] = field(default_factory=set)
    pieces: list[str] = field(default_factory=list)
    attempt: int = 0  # grows whenever the text begins again

    def ring(self) -> None:
        for doorbell in self.doorbells:
            doorbell.set()


@dataclass(slots=True)
class _OutputCursor:
    """How much of a topic's text one follower has had."""

    attempt: int = 0
    pieces: int = 0
    has_text: bool = False

    def take(self, topic: _Topic) -> Json | None:
        """What is new since the last call."""
        if self.attempt != topic.attempt:
            self.attempt, self.pieces = topic.attempt, 0
        if self.pieces == len(topic.pieces):
            return None
        is_restart = self.has_text and self.pieces == 0
        text = "".join(topic.pieces[self.pieces :])
        self.pieces, self.has_text = len(topic.pieces), True
        return {"text": text, "restart": True} if is_restart else {"text": text}


class Feed:
    """The doorbells. Lives on one event loop."""

    def __init__(self, store: Store, heartbeat_s: float = 15.0) -> None:
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._topics: dict[JobId, _Topic] = {}
        self._organizations: dict[OrganizationId, set[asyncio.Event]] = {}

    def ring(self, events: Sequence[JobEvent]) -> None:
        """Wakes the followers of these events. Called on the event loop after each commit."""
        for event in events:
            topic = self._topics.get(event.job_id)
            if topic is not None:
                topic.ring()
                if event.is_terminal:
                    del self._topics[event.job_id]  # its followers keep it until they have read it
        for organization_id in {event.organization_id for event in events}:
            for doorbell in self._organizations.get(organization_id, ()):
                doorbell.set()

    def publish_output(self, job_id: JobId, piece: Json) -> None:
        """Adds {"text": ...} to the output of the running attempt. The caller ends the attempt with `drop_output`."""
        topic = self._topics.setdefault(job_id, _Topic())
        topic.pieces.append(piece["text"])
        topic.ring()

    def drop_output(self, job_id: JobId) -> None:
        """Forgets the output of an attempt that is over, however it ended."""
        topic = self._topics.get(job_id)
        if topic is None:
            return
        if topic.pieces:
            topic.pieces, topic.attempt = [], topic.attempt + 1
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
            output, waiting = _OutputCursor(), _Heartbeat(self._heartbeat_s)
            while True:
                doorbell.clear()
                piece = output.take(topic) if include_output else None  # before the events that it comes after
                events = await self._store.events_of_job(job_id, after, PAGE)
                for event in events:
                    after = event.seq
                    if event.is_terminal:
                        for rest in (piece, output.take(topic) if include_output else None):
                            if rest is not None:
                                yield LiveOutput(job_id, rest)
                        yield event
                        return
                    yield event
                if piece is not None:
                    yield LiveOutput(job_id, piece)
                if not events and job.state in TERMINAL:
                    return
                if not events and await waiting.is_due(doorbell):
                    yield None

    async def follow_organization(
        self, organization_id: OrganizationId, after: int | None
    ) -> AsyncIterator[JobEvent | None]:
        """The events with a position over `after` (None: those from now on), without end; None when a heartbeat is
        due."""
        with self._following_organization(organization_id) as doorbell:
            cursor = await self._store.last_position(organization_id) if after is None else after
            waiting = _Heartbeat(self._heartbeat_s)
            while True:
                doorbell.clear()
                events = await self._store.events_of_organization(organization_id, cursor, PAGE)
                for event in events:
                    cursor = event.position
                    yield event
                if not events and await waiting.is_due(doorbell):
                    yield None

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
    def _following_organization(self, organization_id: OrganizationId) -> Iterator[asyncio.Event]:
        doorbell = asyncio.Event()
        self._organizations.setdefault(organization_id, set()).add(doorbell)
        try:
            yield doorbell
        finally:
            self._organizations[organization_id].discard(doorbell)
            if not self._organizations[organization_id]:
                del self._organizations[organization_id]

    def _forget_idle(self, job_id: JobId, topic: _Topic) -> None:
        if not topic.doorbells and not topic.pieces and self._topics.get(job_id) is topic:
            del self._topics[job_id]


class _Heartbeat:
    """Waits for a doorbell, and knows when a follower has been silent for long enough to say so."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next = asyncio.get_running_loop().time() + every_s

    async def is_due(self, doorbell: asyncio.Event) -> bool:
        """Returns when the doorbell rings, or it is time to look anyway, or, True, to send a heartbeat."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(self._next, loop.time() + POLL_S)):
                await doorbell.wait()
        except TimeoutError:
            pass
        if loop.time() < self._next:
            return False
        self._next = loop.time() + self._every_s
        return True
