"""The fake engine does what it is told, the same every time."""

import struct
import threading
import zlib

import pytest

from node.engine import DeviceSpec, Done, Engine, Failed, ModelSpec, StepEvent
from node.engines import loader
from node.engines.fake import FakeEngine, Faults, png
from protos.errors import InputInvalid
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    EmbeddingResult,
    ImageRequest,
    ImageResult,
    Message,
    Modality,
    ModelId,
    Progress,
    ResponseFormat,
    SegmentDelta,
    Task,
    TaskId,
    TaskRequest,
    TextDelta,
    TextRequest,
    TextResult,
)


def engine_of(faults: Faults | None = None) -> FakeEngine:
    return FakeEngine(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.TEXT, seats=2), faults=faults)


def played(engine: Engine, request: TaskRequest) -> list[StepEvent]:
    """All events of one task, alone."""
    assert engine.admit(engine.prepare(Task(id=TaskId("t"), request=request)))
    events: list[StepEvent] = []
    while engine.seated:
        events += [event for _, event in engine.step(None).events]
    return events


def result_of(request: TaskRequest) -> object:
    done = played(engine_of(), request)[-1]
    assert isinstance(done, Done)
    return done.raw


def test_text_says_the_words_of_the_last_message() -> None:
    request = TextRequest(messages=[Message("system", "be brief"), Message("user", "one two")])
    assert result_of(request) == TextResult("one two", "stop")


def test_text_stops_at_max_tokens() -> None:
    assert result_of(TextRequest(prompt="a b c", max_tokens=2)) == TextResult("a b", "length")


def test_several_answers_are_told_apart_and_each_word_is_scored_where_that_is_asked_for() -> None:
    *told, done = played(engine_of(), TextRequest(prompt="a b", n=2, logprobs=2))
    assert isinstance(done, Done)
    assert [(event.text, event.answer) for event in told if isinstance(event, TextDelta)] == [
        ("a", 0), ("a", 1), (" b", 0), (" b", 1)
    ]  # fmt: skip
    result: TextResult = done.raw
    assert [answer.text for answer in result.answers] == ["a b", "a b"]
    assert [chosen.token.data for chosen in result.logprobs] == [b"a", b" b"]
    assert [len(chosen.top) for chosen in result.logprobs] == [2, 2]
    assert (done.usage.input_tokens, done.usage.output_tokens) == (2, 4)


def test_a_json_object_is_made_of_the_words() -> None:
    result = result_of(TextRequest(prompt="a b", response_format=ResponseFormat("json_object")))
    assert result == TextResult('{"said": "a b"}', "stop")


def test_vectors_have_length_1_and_differ_by_text() -> None:
    result = result_of(EmbeddingRequest(texts=["a", "b", "a"]))
    assert isinstance(result, EmbeddingResult)
    rows = [struct.unpack("<8f", result.vectors[i : i + 32]) for i in (0, 32, 64)]
    assert rows[0] == rows[2] != rows[1]
    assert [sum(number**2 for number in row) for row in rows] == pytest.approx([1.0] * 3)


def test_pictures_take_steps_and_differ_by_seed() -> None:
    events = played(engine_of(), ImageRequest(prompt="a cat", steps=3, n=2))
    assert [event.fraction for event in events if isinstance(event, Progress)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert isinstance(events[-1], Done)
    result: ImageResult = events[-1].raw
    assert len({image.data for image in result.images}) == 2


def test_a_picture_is_a_valid_png_of_its_size() -> None:
    data = png(b"\x01\x02\x03", 5, 4)
    assert struct.unpack(">II", data[16:24]) == (5, 4)
    length = struct.unpack(">I", data[33:37])[0]
    assert zlib.decompress(data[41 : 41 + length]) == (b"\0" + b"\x01\x02\x03" * 5) * 4


def test_speech_has_a_segment_per_second() -> None:
    events = played(engine_of(), AudioRequest(audio=Blob(b"x" * 80_000)))
    assert [event.segment.end_s for event in events if isinstance(event, SegmentDelta)] == [1.0, 2.0, 2.5]
    assert isinstance(events[-1], Done)
    result: AudioResult = events[-1].raw
    assert result.duration_s == 2.5


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (TextRequest(prompt=""), "prompt"),
        (TextRequest(prompt="w " * 300), "prompt"),
        (TextRequest(prompt="a", temperature=-1), "temperature"),
        (TextRequest(prompt="a", n=0), "n"),
        (TextRequest(prompt="a", response_format=ResponseFormat("regex", "a")), "response_format"),
        (TextRequest(prompt="a", max_tokens=0), "max_tokens"),
        (TextRequest(prompt="a", max_tokens=10_000), "max_tokens"),
        (EmbeddingRequest(texts=[]), "texts"),
        (EmbeddingRequest(texts=["a", " "]), "texts[1]"),
        (EmbeddingRequest(texts=["a"], dimensions=9), "dimensions"),
        (ImageRequest(prompt="a", steps=0), "steps"),
        (AudioRequest(audio=Blob(b"")), "audio"),
    ],
)
def test_a_wrong_field_is_named(request_: TaskRequest, path: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        engine_of().prepare(Task(id=TaskId("t"), request=request_))
    assert caught.value.message.startswith(f"{path}: ")


def test_a_word_can_fail_its_task() -> None:
    (failed,) = played(engine_of(Faults(fails_on="bad")), TextRequest(prompt="a bad day"))
    assert isinstance(failed, Failed)


def test_a_word_can_make_the_step_throw_and_the_seats_stay() -> None:
    engine = engine_of(Faults(throws_on="poison"))
    assert engine.admit(engine.prepare(Task(id=TaskId("t"), request=TextRequest(prompt="poison"))))
    with pytest.raises(RuntimeError, match="as it was told to"):
        engine.step(None)
    assert engine.seated == 1


def test_a_closed_gate_holds_the_step() -> None:
    gate = threading.Event()
    engine = engine_of(Faults(gate=gate))
    assert engine.admit(engine.prepare(Task(id=TaskId("t"), request=TextRequest(prompt="a"))))
    thread = threading.Thread(target=engine.step, args=(None,))
    thread.start()
    assert engine.seated == 1
    gate.set()
    thread.join(timeout=60)
    assert engine.seated == 0


def test_it_is_found_by_its_name() -> None:
    engine = loader("fake")(ModelSpec(id=ModelId("m"), engine="fake", modality=Modality.IMAGE), DeviceSpec("cpu"))
    assert engine.modality == Modality.IMAGE
    assert engine.prepare(Task(id=TaskId("t"), request=ImageRequest(prompt="a", steps=4))).expected_s == pytest.approx(
        0.004
    )
