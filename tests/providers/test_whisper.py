"""Whisper before its stand-in on a real socket: what it is sent, what it answers, and what can go wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from door import Bell
from vendors.faults import Cut, Garbage, Hang, Status, first
from vendors.serving import serving
from vendors.whisper_app import WhisperStandIn

from protos.errors import (
    Cancelled,
    FabricError,
    InputInvalid,
    ModelNotFound,
    NodeUnavailable,
    Overloaded,
    VendorRefused,
)
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    Finished,
    Modality,
    ModelId,
    Segment,
    Started,
    Task,
    TaskEvent,
    TaskId,
    Tier,
    Word,
)
from providers.watched import Pace, Watched
from providers.whisper import whisper_provider

SOUND = Blob(b"\0" * 64_000, "audio/wav")  # 2 s
HEAR = AudioRequest(audio=SOUND)
QUICK = Pace(healthy_s=0.05, failing_s=(0.02,))
SMALL = "Systran/faster-whisper-small"
BOUND_S = 60.0


@dataclass(frozen=True)
class Place:
    provider: Watched
    vendor: WhisperStandIn
    bell: Bell

    async def run(self, request: AudioRequest = HEAR, **more: Any) -> list[TaskEvent]:  # Any: fields of a task
        async with asyncio.timeout(BOUND_S):
            return [event async for event in self.provider.run(Task(id=TaskId("t"), request=request, **more))]

    async def refusal(self, request: AudioRequest = HEAR) -> FabricError:
        with pytest.raises(FabricError) as caught:
            await self.run(request)
        return caught.value


@asynccontextmanager
async def standing(vendor: WhisperStandIn, path: str = "") -> AsyncIterator[Place]:
    async with serving(vendor.app()) as url:
        bell = Bell()
        provider = whisper_provider(url + path, bell, pace=QUICK)
        await provider.start()
        try:
            await bell.until_healthy(provider)
            yield Place(provider, vendor, bell)
        finally:
            await provider.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with standing(WhisperStandIn()) as standing_place:
        yield standing_place


async def test_it_offers_its_own_model_and_those_it_lists_free_and_here(place: Place) -> None:
    snapshot = place.provider.snapshot()
    assert (snapshot.tier, snapshot.is_remote) == (Tier.BASIC, False)
    assert [(o.model, o.modality, o.is_default, o.price) for o in snapshot.offers] == [
        ("whisper-1", Modality.AUDIO, True, None),
        (SMALL, Modality.AUDIO, False, None),
    ]


@pytest.mark.parametrize(("health", "lists"), [(0, 404), (200, 500), (0, 500)])
async def test_a_server_without_health_or_a_list_serves_its_own_model(health: int, lists: int) -> None:
    async with standing(WhisperStandIn(health=health, lists=lists)) as place:
        assert [offer.model for offer in place.provider.snapshot().offers] == ["whisper-1"]
        assert isinstance((await place.run())[-1], Finished)


async def test_its_list_is_not_asked_for_at_every_look(place: Place) -> None:
    for health in (503, 200):  # two more looks at least, one of them after it was away
        place.vendor.health = health
        await place.bell.until(lambda seen, ok=health == 200: (seen.health.status == "healthy") is ok, place.provider)
    assert place.vendor.times_listed == 2


async def test_a_url_with_its_v1_is_the_same_server() -> None:
    async with standing(WhisperStandIn(), "/v1") as place:
        assert isinstance((await place.run())[-1], Finished)


async def test_a_transcript_comes_with_its_segments_and_what_was_heard(place: Place) -> None:
    _, started, finished = await place.run(model=ModelId(SMALL))
    assert started == Started(started.node_id, ModelId(SMALL))  # type: ignore[union-attr]  # it is
    assert isinstance(finished, Finished)
    assert finished.result == AudioResult(
        "The quick brown fox", "en", 2.0, (Segment(0.0, 1.0, "The quick"), Segment(1.0, 2.0, " brown fox"))
    )
    assert finished.usage.audio_seconds == 2.0


async def test_every_param_is_sent_under_its_name(place: Place) -> None:
    request = AudioRequest(audio=SOUND, language="en", word_timestamps=True, prompt="foxes", vad=False, temperature=0.5)
    *_, finished = await place.run(request)
    assert place.vendor.forms[-1] == {
        "model": "whisper-1",
        "response_format": "verbose_json",
        "language": "en",
        "timestamp_granularities[]": ["word", "segment"],
        "prompt": "foxes",
        "vad_filter": "false",
        "temperature": "0.5",
    }
    assert isinstance(finished, Finished)
    assert isinstance(finished.result, AudioResult)
    assert finished.result.segments[0].words == (Word(0.0, 0.5, "The", 0.9), Word(0.5, 1.0, " quick", 0.91))


async def test_speech_is_found_first_unless_told_otherwise(place: Place) -> None:
    await place.run()
    assert place.vendor.forms[-1] == {"model": "whisper-1", "response_format": "verbose_json", "vad_filter": "true"}


async def test_a_translation_has_its_own_path(place: Place) -> None:
    await place.run(AudioRequest(audio=SOUND, task="translate"))
    assert place.vendor.paths == ["/v1/audio/translations"]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (AudioRequest(audio=Blob(b"")), "input.audio"),
        (AudioRequest(audio=SOUND, task="translate", language="de"), "params.language"),
        (AudioRequest(audio=SOUND, task="translate", word_timestamps=True), "params.word_timestamps"),
    ],
    ids=["no sound", "language of a translation", "words of a translation"],
)
async def test_what_it_cannot_take_is_refused_by_name(place: Place, request_: AudioRequest, path: str) -> None:
    error = await place.refusal(request_)
    assert isinstance(error, InputInvalid)
    assert path in error.message
    assert place.vendor.forms == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputInvalid),
        (401, VendorRefused),
        (404, ModelNotFound),
        (415, InputInvalid),
        (422, InputInvalid),
        (429, Overloaded),
        (500, NodeUnavailable),
        (503, NodeUnavailable),
    ],
)
async def test_a_status_is_the_error_that_it_means(place: Place, status: int, kind: type[FabricError]) -> None:
    place.vendor.plan = first(Status(status, said="what whisper said", headers={"Retry-After": "3"}))
    error = await place.refusal()
    assert type(error) is kind
    if status in (429, 503):
        assert error.retry_after_s == 3
    if kind is not VendorRefused:  # whose reason may repeat a key
        assert "what whisper said" in error.message


async def test_a_model_that_it_does_not_have_is_not_found(place: Place) -> None:
    with pytest.raises(ModelNotFound, match="whisper has no audio model 'gone'"):
        await place.run(model=ModelId("gone"))


@pytest.mark.parametrize("fault", [Cut(), Garbage("<html>"), Garbage('{"text": "no more"}')])
async def test_an_answer_that_breaks_is_a_failure_not_a_short_transcript(place: Place, fault: Any) -> None:
    place.vendor.plan = first(fault)
    assert type(await place.refusal()) is NodeUnavailable
    assert isinstance((await place.run())[-1], Finished)


async def test_a_cancel_reaches_a_call_that_is_being_heard(place: Place) -> None:
    until = asyncio.Event()
    place.vendor.plan = first(Hang(until))
    events = place.provider.run(Task(id=TaskId("t"), request=HEAR))
    async with asyncio.timeout(BOUND_S):
        while not isinstance(await anext(events), Started):
            pass
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)  # it is under way
        await place.provider.cancel(TaskId("t"))
        with pytest.raises(Cancelled):
            await waiting
    until.set()
