"""What goes through the codec and bytes comes back equal."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

import pytest
from google.protobuf.message import Message as Protobuf
from hypothesis import given
from hypothesis import strategies as st

from protos import codec
from protos.errors import InputInvalid, NotFound
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    ChosenToken,
    Device,
    EmbeddingRequest,
    EmbeddingResult,
    Estimate,
    Finished,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    ImageScheduler,
    Message,
    Modality,
    Model,
    ModelId,
    ModelState,
    ModelStatus,
    NodeId,
    NodeStatus,
    OrganizationId,
    Preview,
    Progress,
    Queued,
    ResponseFormat,
    Segment,
    SegmentDelta,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextDelta,
    TextRequest,
    TextResult,
    Tier,
    Timings,
    TokenLogprob,
    Usage,
    Word,
)

WORDS = st.text(max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**32 - 1)
BIG = st.integers(0, 2**64 - 1)
FILES = st.binary(max_size=64)
NAMES = st.text(min_size=1, max_size=12)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def many(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


SAMPLING = {
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "top_k": COUNTS,
    "min_p": NUMBERS,
    "max_tokens": maybe(COUNTS),
    "stop": many(WORDS),
    "seed": maybe(BIG),
    "repetition_penalty": NUMBERS,
    "frequency_penalty": NUMBERS,
    "presence_penalty": NUMBERS,
    "logprobs": maybe(COUNTS),
    "n": COUNTS,
    "response_format": maybe(
        st.builds(
            ResponseFormat,
            st.sampled_from(["json_object", "json_schema", "regex", "grammar"]),
            WORDS,
            WORDS,
            st.booleans(),
        )
    ),
}
TEXTS = st.builds(TextRequest, prompt=WORDS, **SAMPLING) | st.builds(
    TextRequest, messages=st.lists(st.builds(Message, WORDS, WORDS), min_size=1, max_size=3).map(tuple), **SAMPLING
)
BLOBS = st.builds(Blob, FILES, WORDS)
IMAGES = st.builds(
    ImageRequest,
    prompt=WORDS,
    negative_prompt=WORDS,
    image=maybe(BLOBS),
    width=maybe(COUNTS),
    height=maybe(COUNTS),
    steps=maybe(COUNTS),
    guidance_scale=maybe(NUMBERS),
    strength=maybe(NUMBERS),
    seed=maybe(BIG),
    n=COUNTS,
    scheduler=st.sampled_from([None, *get_args(ImageScheduler)]),
    preview_every=maybe(COUNTS),
)
AUDIOS = st.builds(
    AudioRequest,
    audio=BLOBS,
    language=WORDS,
    task=st.sampled_from(["transcribe", "translate"]),
    word_timestamps=st.booleans(),
    prompt=WORDS,
    vad=st.booleans(),
    temperature=NUMBERS,
)
EMBEDDINGS = st.builds(
    EmbeddingRequest, texts=many(WORDS), dimensions=maybe(COUNTS), normalize=st.booleans(), prompt_name=WORDS
)
TASKS = st.builds(
    Task,
    id=NAMES.map(TaskId),
    request=st.one_of(TEXTS, IMAGES, AUDIOS, EMBEDDINGS),
    model=maybe(NAMES.map(ModelId)),
    organization_id=NAMES.map(OrganizationId),
    priority=COUNTS,
    timeout_s=maybe(NUMBERS),
    tier=maybe(st.sampled_from(Tier)),
    privacy=st.sampled_from(["any", "local_only"]),
    is_forwarded=st.booleans(),
)
TOKENS = st.builds(TokenLogprob, FILES, NUMBERS)
CHOSEN = many(st.builds(ChosenToken, TOKENS, many(TOKENS)))
ANSWERS = st.builds(TextResult, WORDS, st.sampled_from(["stop", "length"]), CHOSEN)
SEGMENTS = st.builds(Segment, NUMBERS, NUMBERS, WORDS, many(st.builds(Word, NUMBERS, NUMBERS, WORDS, NUMBERS)))
RESULTS = st.one_of(
    st.builds(TextResult, WORDS, st.sampled_from(["stop", "length"]), CHOSEN, many(ANSWERS)),
    st.builds(ImageResult, many(st.builds(GeneratedImage, FILES, WORDS, COUNTS, COUNTS, BIG))),
    st.builds(AudioResult, WORDS, WORDS, NUMBERS, many(SEGMENTS)),
    st.builds(EmbeddingResult, COUNTS, FILES),
)
USAGES = st.builds(
    Usage,
    input_tokens=BIG,
    output_tokens=BIG,
    cached_tokens=BIG,
    reasoning_tokens=BIG,
    audio_seconds=NUMBERS,
    images=COUNTS,
    device_seconds=NUMBERS,
)
TIMINGS = st.builds(Timings, queued_s=NUMBERS, load_s=NUMBERS, first_output_s=NUMBERS, total_s=NUMBERS)
EVENTS = st.one_of(
    st.builds(Queued, COUNTS),
    st.builds(Started, NAMES.map(NodeId), NAMES.map(ModelId)),
    st.builds(Progress, NUMBERS, COUNTS, COUNTS),
    st.builds(TextDelta, WORDS, COUNTS, CHOSEN),
    st.builds(SegmentDelta, SEGMENTS),
    st.builds(Preview, COUNTS, FILES, WORDS),
    st.builds(Finished, RESULTS, USAGES, TIMINGS),
)
MODELS = st.builds(
    Model,
    id=NAMES.map(ModelId),
    modality=st.sampled_from(Modality),
    state=st.sampled_from(ModelState),
    is_default=st.booleans(),
    memory_bytes=BIG,
    error=WORDS,
    context_tokens=COUNTS,
    engine=WORDS,
)
STATUSES = st.builds(
    NodeStatus,
    node_id=NAMES.map(NodeId),
    device=st.builds(
        Device,
        kind=st.sampled_from(["cpu", "cuda"]),
        name=WORDS,
        total_bytes=BIG,
        used_bytes=BIG,
        reserved_bytes=BIG,
        foreign_bytes=BIG,
    ),
    models=many(
        st.builds(
            ModelStatus,
            model=MODELS,
            waiting=COUNTS,
            waiting_limit=COUNTS,
            running=COUNTS,
            last_batch=COUNTS,
            max_batch=COUNTS,
            steps_per_s=NUMBERS,
            units_per_s=NUMBERS,
            device_seconds=NUMBERS,
            last_step_age_s=NUMBERS,
            oldest_wait_s=NUMBERS,
            succeeded=BIG,
            failed=BIG,
            cancelled=BIG,
        )
    ),
    ready=st.booleans(),
    reason=WORDS,
    draining=st.booleans(),
    uptime_s=NUMBERS,
    version=WORDS,
)
ESTIMATES = st.builds(
    Estimate,
    model=NAMES.map(ModelId),
    usage=USAGES,
    queue_s=NUMBERS,
    load_s=NUMBERS,
    run_s=NUMBERS,
    total_s=NUMBERS,
    fits_memory=st.booleans(),
    would_evict=many(NAMES.map(ModelId)),
)

M = TypeVar("M", bound=Protobuf)


def travelled(message: M) -> M:
    """The message as the other side parses it."""
    return type(message).FromString(message.SerializeToString())


def no_blob(blob_id: str) -> bytes:
    raise NotFound(f"no blob {blob_id!r}")


def read(messages: Sequence[pb.TaskEvent]) -> list[TaskEvent]:
    reader = codec.EventReader()
    return [event for message in messages if (event := reader.read(travelled(message))) is not None]


@given(TASKS)
def test_tasks_come_back_equal(task: Task) -> None:
    assert codec.task_from(travelled(codec.task_message(task)), no_blob) == task


@given(EVENTS)
def test_events_come_back_equal(event: TaskEvent) -> None:
    assert read(list(codec.event_messages(TaskId("t"), event))) == [event]


def test_an_answer_without_a_picture_arrives() -> None:
    finished = Finished(ImageResult(()), Usage(), Timings())
    assert read(list(codec.event_messages(TaskId("t"), finished))) == [finished]


@given(STATUSES)
def test_statuses_come_back_equal(status: NodeStatus) -> None:
    assert codec.status_from(travelled(codec.status_message(status))) == status


@given(ESTIMATES)
def test_estimates_come_back_equal(estimate: Estimate) -> None:
    assert codec.estimate_from(travelled(codec.estimate_message(estimate))) == estimate


def test_large_results_travel_in_chunks_that_fit_a_message() -> None:
    vectors = bytes(range(256)) * (codec.CHUNK_BYTES // 64)  # four chunks
    finished = Finished(EmbeddingResult(4, vectors), Usage(), Timings())
    messages = list(codec.event_messages(TaskId("t"), finished))
    assert len(messages) == 5
    assert max(message.ByteSize() for message in messages) < codec.CHUNK_BYTES + 1024
    assert read(messages) == [finished]


def test_a_staged_blob_is_found_by_its_id() -> None:
    message = pb.Task(id="t", audio=pb.AudioRequest(audio=pb.Blob(blob_id="b", content_type="audio/wav")))
    request = codec.task_from(message, {"b": b"bytes"}.__getitem__).request
    assert request == AudioRequest(audio=Blob(b"bytes", "audio/wav"))


@pytest.mark.parametrize("message", [pb.Task(id="t"), pb.Task(id="t", audio=pb.AudioRequest())])
def test_a_task_without_its_input_is_refused(message: pb.Task) -> None:
    with pytest.raises(InputInvalid, match="is missing"):
        codec.task_from(message, no_blob)


def test_an_event_of_a_newer_contract_is_passed_over() -> None:
    assert read([pb.TaskEvent(task_id="t")]) == []


def test_what_a_caller_leaves_out_has_the_documented_default() -> None:
    text = codec.task_from(pb.Task(id="t", text=pb.TextRequest(prompt="hi")), no_blob)
    assert text == Task(id=TaskId("t"), request=TextRequest(prompt="hi"))
    texts = codec.task_from(pb.Task(id="t", embedding=pb.EmbeddingRequest(texts=["hi"])), no_blob)
    assert texts.request == EmbeddingRequest(texts=("hi",))
    image = codec.task_from(pb.Task(id="t", image=pb.ImageRequest(prompt="a circle")), no_blob)
    assert image.request == ImageRequest(prompt="a circle")
    audio = codec.task_from(pb.Task(id="t", audio=pb.AudioRequest(audio=pb.Blob(data=b"RIFF"))), no_blob)
    assert audio.request == AudioRequest(audio=Blob(b"RIFF", ""))


def test_a_zero_that_a_caller_set_is_not_taken_for_a_default() -> None:
    message = pb.Task(id="t", priority=0, text=pb.TextRequest(prompt="hi", temperature=0, top_p=0))
    task = codec.task_from(message, no_blob)
    assert (task.priority, task.request) == (0, TextRequest(prompt="hi", temperature=0, top_p=0))


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (pb.Task(id="t", text=pb.TextRequest(prompt="hi"), tier="gold"), "tier: is 'gold': give basic or premium"),
        (pb.Task(id="t", text=pb.TextRequest(prompt="hi"), privacy="secret"), "privacy: is 'secret': give local_only"),
    ],
    ids=["tier", "privacy"],
)
def test_an_unknown_tier_or_privacy_is_refused_with_what_there_is(message: pb.Task, wrong: str) -> None:
    with pytest.raises(InputInvalid, match=wrong):
        codec.task_from(message, no_blob)


def test_a_format_of_an_unknown_kind_is_refused_with_those_there_are() -> None:
    message = pb.Task(id="t", text=pb.TextRequest(prompt="hi", response_format=pb.ResponseFormat(kind="xml")))
    with pytest.raises(InputInvalid, match=r"response_format.kind: is 'xml': give one of json_object, json_schema"):
        codec.task_from(message, no_blob)
