"""Speech through a running node: every container, every file that is none, and segments while a file is running."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import small_whisper
from small_whisper import FILES, RATE_HZ, file_of, flac

from node.engine import ModelSpec, Prepared
from node.engines.fake import FakeEngine
from protos.errors import InputInvalid
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import AudioRequest, AudioResult, Blob, Finished, Segment, SegmentDelta, Task, TaskId

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client
PATIENCE_S = 60.0
CONTAINERS = ("wav", "mp3", "flac", "ogg", "m4a", "webm", "mp4")


@pytest.fixture(scope="session")
def terse_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_whisper.save_terse(tmp_path_factory.mktemp("terse"))


@pytest.fixture
async def client(start_node: StartNode, terse_path: Path) -> AsyncIterator[Any]:
    models = f"""
        [[model]]
        id = "ears"
        engine = "whisper"
        path = "{terse_path}"
        default = true
    """
    async with start_node(models, are_real=True, threads=1) as client:
        yield client


def task_of(request: AudioRequest, name: str = "t") -> Task:
    return Task(id=TaskId(name), request=request)


async def result_of(client: Any, request: AudioRequest) -> AudioResult:  # Any: a Client
    *_, last = await client.run(task_of(request))
    assert isinstance(last, Finished)
    assert isinstance(last.result, AudioResult)
    return last.result


async def test_every_common_container_is_heard(client: Any) -> None:
    for container in CONTAINERS:
        result = await result_of(client, file_of(f"spoken.{container}"))
        assert result.duration_s == pytest.approx(2.055, abs=0.15)
        assert result.language in {"en", "de", "fr"}
        assert result.text


async def test_files_that_are_no_sound_are_refused_by_name_and_the_node_goes_on(client: Any) -> None:
    wrong = {
        "is empty": b"",
        "cannot be read as audio": b"no audio at all, but long enough to look at",
        "has no sound, only video": (FILES / "silent-film.mp4").read_bytes(),
    }
    for message, data in wrong.items():
        error = await client.error_of(task_of(AudioRequest(audio=Blob(data))))
        assert isinstance(error, InputInvalid)
        assert message in error.message
        assert [wrong["path"] for wrong in error.details["errors"]] == ["audio"]
    assert (await result_of(client, file_of("spoken.wav"))).text


class SlowReader(FakeEngine):
    """Reads a recording for as long as nobody says that it may end."""

    def __init__(self, spec: ModelSpec, began: Event, may_end: Event) -> None:
        super().__init__(spec)
        self.began, self.may_end = began, may_end

    def prepare(self, task: Task) -> Prepared:
        self.began.set()
        assert self.may_end.wait(PATIENCE_S), "nobody was answered meanwhile: it was read on the event loop"
        return super().prepare(task)


async def test_a_node_answers_while_a_recording_is_decoded_and_searched(start_node: StartNode) -> None:
    """Both are prepare's part; were it called on the event loop, the status could not come before its end."""
    began, may_end = Event(), Event()
    ears = '[[model]]\nid = "ears"\nengine = "fake"\nmodality = "audio"\ndefault = true'
    async with start_node(ears, load=lambda spec: SlowReader(spec, began, may_end)) as client:
        asked = asyncio.create_task(result_of(client, AudioRequest(audio=Blob(b"a sound"), language="en")))
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        status = await client.stub.GetStatus(pb.StatusRequest())
        assert status.ready
        assert not asked.done()
        may_end.set()
        assert (await asked).text


async def test_of_a_file_that_is_cut_in_the_middle_what_is_there_is_heard(client: Any) -> None:
    data = (FILES / "spoken.wav").read_bytes()
    result = await result_of(client, AudioRequest(audio=Blob(data[: len(data) // 2]), vad=False))
    assert result.duration_s == pytest.approx(2.055 / 2, abs=0.01)
    assert result.text


async def test_an_hour_of_silence_is_an_empty_text_without_any_time_of_the_device(client: Any) -> None:
    silence = AudioRequest(audio=flac(np.zeros(3600 * RATE_HZ, np.float32)), language="en")
    *_, last = await client.run(task_of(silence))
    assert last.result == AudioResult("", "en", 3600.0, ())
    assert last.usage.device_seconds < 1.0
    assert last.usage.audio_seconds == 3600.0


async def test_segments_come_in_order_while_a_long_file_is_still_running(client: Any) -> None:
    """The first of them come with the file's first call, and its caller reads them before the second one ends."""
    long = AudioRequest(audio=flac(small_whisper.noise(290.0, seed=5)), vad=False, language="en")
    events = [event async for event in client.events(task_of(long))]
    segments = [event.segment for event in events if isinstance(event, SegmentDelta)]
    last = events[-1]
    assert isinstance(last, Finished)
    assert isinstance(last.result, AudioResult)
    assert tuple(map(spoken, segments)) == tuple(map(spoken, last.result.segments))
    assert [segment.start_s for segment in segments] == sorted(segment.start_s for segment in segments)
    progress = [index for index, event in enumerate(events) if type(event).__name__ == "Progress"]
    heard = [index for index, event in enumerate(events) if isinstance(event, SegmentDelta)]
    assert progress
    assert heard[0] < progress[0] < heard[-1]


def spoken(segment: Segment) -> tuple[float, float, str]:
    """What crosses the wire unchanged; probabilities are single there."""
    return round(segment.start_s, 2), round(segment.end_s, 2), segment.text
