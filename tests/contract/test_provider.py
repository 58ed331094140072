"""What every provider does: echo in this process, the others behind real sockets, vendors before their stand-ins."""

import asyncio
import math
import struct
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from door import Bell, open_door
from edge import BOUND_S, fake_node
from vendors import places
from vendors.ollama_app import Model
from vendors.places import ready

from protos.errors import Cancelled, Code, FabricError
from protos.types import (
    MODALITY_OF,
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    EmbeddingResult,
    Finished,
    ImageRequest,
    ImageResult,
    Message,
    Modality,
    ModelId,
    ProviderId,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TaskRequest,
    TextDelta,
    TextRequest,
    TextResult,
)
from providers.base import Provider
from providers.echo import Echo
from providers.fabric import fabric as fabric_router
from providers.node import NodeProvider
from providers.settings import FabricRouter

WORDS = "one two three four five"
REQUESTS: dict[Modality, TaskRequest] = {
    Modality.TEXT: TextRequest(prompt=WORDS),
    Modality.EMBEDDING: EmbeddingRequest(texts=("a", "b", "a")),
    Modality.IMAGE: ImageRequest(prompt="red", n=2),
    Modality.AUDIO: AudioRequest(audio=Blob(b"\0" * 64_000, "audio/wav")),
}
_ids = count()
pytestmark = pytest.mark.asyncio(loop_scope="module")


EMPTY: tuple[TaskRequest, ...] = (
    TextRequest(prompt=""),
    EmbeddingRequest(texts=("",)),
    EmbeddingRequest(texts=()),
    AudioRequest(audio=Blob(b"")),
)


@dataclass(frozen=True)
class Case:
    """A provider, ready, and the model that serves each modality there."""

    provider: Provider
    models: Mapping[Modality, ModelId]
    gate: threading.Event = field(default_factory=threading.Event)  # while a test clears it, a node stands still
    side: tuple[int, int] = (32, 16)  # of the picture that is asked for

    def task(self, request: TaskRequest) -> Task:
        if isinstance(request, ImageRequest):
            request = replace(request, width=self.side[0], height=self.side[1])
        task = Task(id=TaskId(f"task-{next(_ids)}"), request=request)
        return replace(task, model=self.models[task.modality])


# ---- the places; a new one is a function and a line ----


@asynccontextmanager
async def echo(_: Path) -> AsyncIterator[Case]:
    yield Case(Echo(), dict.fromkeys(Modality, ModelId("echo")))


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Case]:
    gate = threading.Event()
    gate.set()
    async with fake_node(folder, gate) as daemon:
        changed = asyncio.Event()
        provider = NodeProvider(ProviderId("node"), daemon.target, changed.set)
        async with ready(provider, changed):
            yield Case(provider, {modality: ModelId(f"fake-{modality}") for modality in Modality}, gate)


@asynccontextmanager
async def openai(_: Path) -> AsyncIterator[Case]:
    models = ("gpt-4o-mini", "gpt-image-2.6-sunburst", "whisper-1", "text-embedding-3-small")
    async with places.openai_place(models) as place:
        yield Case(place.provider, _served(models), side=(1024, 1024))


@asynccontextmanager
async def anthropic(_: Path) -> AsyncIterator[Case]:
    async with places.anthropic_place(("claude-haiku-4-5",)) as place:
        yield Case(place.provider, {Modality.TEXT: ModelId("claude-haiku-4-5")})


@asynccontextmanager
async def compatible(_: Path) -> AsyncIterator[Case]:
    models = ("llama-3.1-8b", "flux-1", "whisper-large", "bge-m3")
    async with places.compatible_place(models) as place:
        yield Case(place.provider, _served(models))


@asynccontextmanager
async def ollama(_: Path) -> AsyncIterator[Case]:
    models = {"llama3.2:3b": Model(), "nomic-embed-text:v1.5": Model(capabilities=("embedding",))}
    async with places.ollama_place(models) as place:
        yield Case(
            place.provider,
            {Modality.TEXT: ModelId("llama3.2:3b"), Modality.EMBEDDING: ModelId("nomic-embed-text:v1.5")},
        )


@asynccontextmanager
async def whisper(_: Path) -> AsyncIterator[Case]:
    async with places.whisper_place(models=()) as place:
        yield Case(place.provider, {Modality.AUDIO: ModelId("whisper-1")})


@asynccontextmanager
async def comfyui(_: Path) -> AsyncIterator[Case]:
    async with places.comfyui_place(checkpoints=("sd15.safetensors",)) as place:
        yield Case(place.provider, {Modality.IMAGE: ModelId("sd15.safetensors")})


@asynccontextmanager
async def fabric(folder: Path) -> AsyncIterator[Case]:
    """Another router, with a node of its own, through its gRPC door."""
    gate, bell = threading.Event(), Bell()
    gate.set()
    async with fake_node(folder / "node", gate) as daemon:
        behind = NodeProvider(ProviderId("node"), daemon.target, bell)
        async with open_door(folder, [behind]) as door:
            await bell.until_healthy(behind)
            changed = asyncio.Event()
            provider = fabric_router(FabricRouter(name="attic", target=door.target), changed.set)
            async with ready(provider, changed):
                yield Case(provider, {modality: ModelId(f"fake-{modality}") for modality in Modality}, gate)


def _served(models: Sequence[str]) -> Mapping[Modality, ModelId]:
    """models: in the order of the modalities."""
    return {modality: ModelId(model) for modality, model in zip(Modality, models, strict=True)}


Open = Callable[[Path], AbstractAsyncContextManager[Case]]
PLACES: Mapping[str, tuple[Open, Sequence[Modality]]] = {
    "echo": (echo, tuple(Modality)),
    "node": (node, tuple(Modality)),
    "openai": (openai, tuple(Modality)),
    "anthropic": (anthropic, (Modality.TEXT,)),
    "compatible": (compatible, tuple(Modality)),
    "ollama": (ollama, (Modality.TEXT, Modality.EMBEDDING)),
    "whisper": (whisper, (Modality.AUDIO,)),
    "comfyui": (comfyui, (Modality.IMAGE,)),
    "fabric": (fabric, tuple(Modality)),
}


Test = TypeVar("Test", bound=Callable[..., object])


def about(*modalities: Modality) -> Callable[[Test], Test]:
    """Marks a test that only places which serve them can pass."""

    def marked(test: Test) -> Test:
        test.modalities = frozenset(modalities)  # type: ignore[attr-defined]  # read by pytest_generate_tests
        return test

    return marked


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test with each place that serves what it asks for: the modality in its name, every one, or any request."""
    needed = getattr(metafunc.function, "modalities", frozenset())
    able = {name: served for name, (_, served) in PLACES.items() if needed <= set(served)}
    if "modality" in metafunc.fixturenames:
        rows = [(name, modality) for name, served in able.items() for modality in served]
        metafunc.parametrize(("case", "modality"), rows, indirect=["case"], scope="module")
    elif "empty" in metafunc.fixturenames:
        pairs = [
            (name, empty) for name, served in able.items() for empty in EMPTY if MODALITY_OF[type(empty)] in served
        ]
        metafunc.parametrize(("case", "empty"), pairs, indirect=["case"], scope="module")
    else:
        metafunc.parametrize("case", list(able), indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Case]:
    open_, _ = PLACES[request.param]
    async with open_(tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


async def run(case: Case, task: Task) -> list[TaskEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in case.provider.run(task)]


async def result(case: Case, request: TaskRequest) -> Finished:
    last = (await run(case, case.task(request)))[-1]
    assert isinstance(last, Finished)
    return last


async def refusal(case: Case, task: Task) -> FabricError:
    with pytest.raises(FabricError) as caught:
        await run(case, task)
    return caught.value


async def test_it_offers_every_modality_that_it_says(case: Case) -> None:
    snapshot = case.provider.snapshot()
    offered = {(offer.modality, offer.model) for offer in snapshot.offers}
    assert snapshot.id == case.provider.id
    assert snapshot.health.status == "healthy"
    assert offered == set(case.models.items())


async def test_events_come_in_order_and_end_with_the_result(case: Case, modality: Modality) -> None:
    first, second, *between, last = await run(case, case.task(REQUESTS[modality]))
    assert isinstance(first, Queued)
    assert isinstance(second, Started)
    assert second.model == case.models[modality]
    assert not [event for event in between if isinstance(event, Queued | Started | Finished)]
    assert isinstance(last, Finished)


@about(Modality.TEXT)
async def test_deltas_joined_are_the_text(case: Case) -> None:
    events = await run(case, case.task(TextRequest(prompt=WORDS)))
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(deltas) == WORDS
    assert events[-1].result == TextResult(WORDS, "stop")  # type: ignore[union-attr]  # the last is Finished
    assert events[-1].usage.output_tokens == 5  # type: ignore[union-attr]


@about(Modality.TEXT)
async def test_a_conversation_is_answered_on_its_last_message(case: Case) -> None:
    messages = (Message("system", "be brief"), Message("user", "hello there"))
    finished = await result(case, TextRequest(messages=messages))
    assert finished.result == TextResult("hello there", "stop")


@about(Modality.TEXT)
async def test_max_tokens_cuts_and_says_so(case: Case) -> None:
    finished = await result(case, TextRequest(prompt=WORDS, max_tokens=2))
    assert finished.result == TextResult("one two", "length")


@about(Modality.EMBEDDING)
async def test_vectors_are_of_unit_length_and_the_same_for_the_same_text(case: Case) -> None:
    finished = await result(case, REQUESTS[Modality.EMBEDDING])
    assert isinstance(finished.result, EmbeddingResult)
    dimensions, vectors = finished.result.dimensions, finished.result.vectors
    first, second, third = (
        struct.unpack(f"<{dimensions}f", vectors[at : at + 4 * dimensions])
        for at in range(0, len(vectors), 4 * dimensions)
    )
    assert first == third != second
    assert math.hypot(*first) == pytest.approx(1, abs=1e-6)


@about(Modality.IMAGE)
async def test_pictures_are_png_of_the_size_asked_for(case: Case) -> None:
    finished = await result(case, REQUESTS[Modality.IMAGE])
    assert isinstance(finished.result, ImageResult)
    assert len(finished.result.images) == 2
    for image in finished.result.images:
        assert image.data.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", image.data[16:24]) == (image.width, image.height) == case.side


@about(Modality.AUDIO)
async def test_a_transcript_has_segments_within_its_duration(case: Case) -> None:
    finished = await result(case, REQUESTS[Modality.AUDIO])
    assert isinstance(finished.result, AudioResult)
    assert finished.result.text
    assert all(s.start_s < s.end_s <= finished.result.duration_s for s in finished.result.segments)
    assert finished.usage.audio_seconds == finished.result.duration_s


@about(Modality.AUDIO)
async def test_a_file_larger_than_one_message_arrives_whole(case: Case) -> None:
    sound = AudioRequest(audio=Blob(b"\1" * (5 * 1024 * 1024), "audio/wav"))
    assert isinstance((await result(case, sound)).result, AudioResult)


@about(Modality.TEXT)
async def test_an_unknown_model_is_refused(case: Case) -> None:
    task = replace(case.task(TextRequest(prompt=WORDS)), model=ModelId("gone"))
    error = await refusal(case, task)
    assert error.code is Code.MODEL_NOT_FOUND
    assert "gone" in error.message


async def test_an_empty_input_is_refused_by_run_and_estimate(case: Case, empty: TaskRequest) -> None:
    assert (await refusal(case, case.task(empty))).code is Code.INPUT_VALIDATION_FAILED
    with pytest.raises(FabricError) as caught:
        await case.provider.estimate(case.task(empty))
    assert caught.value.code is Code.INPUT_VALIDATION_FAILED


@about(Modality.TEXT)
async def test_many_at_once_each_get_their_own_answer(case: Case) -> None:
    prompts = [f"answer number {n}" for n in range(12)]
    finished = await asyncio.gather(*(result(case, TextRequest(prompt=prompt)) for prompt in prompts))
    assert [each.result for each in finished] == [TextResult(prompt, "stop") for prompt in prompts]


@about(Modality.TEXT)
async def test_a_cancelled_task_ends_as_cancelled(case: Case) -> None:
    task = case.task(TextRequest(prompt=" ".join(["word"] * 200)))

    async def cancel_when_queued() -> None:
        async for event in case.provider.run(task):
            if isinstance(event, Queued):
                await case.provider.cancel(task.id)

    case.gate.clear()  # a node would be done before it hears of the cancel, now and then
    try:
        with pytest.raises(Cancelled):
            await asyncio.wait_for(cancel_when_queued(), BOUND_S)
    finally:
        case.gate.set()


async def test_cancelling_what_does_not_run_does_nothing(case: Case) -> None:
    await case.provider.cancel(TaskId("nobody"))


@about(Modality.TEXT)
async def test_an_estimate_names_the_model_and_what_it_assumes(case: Case) -> None:
    estimate = await case.provider.estimate(case.task(TextRequest(prompt=WORDS)))
    assert estimate.model == case.models[Modality.TEXT]
    assert estimate.usage.input_tokens == 5
    assert estimate.fits_memory
    assert estimate.total_s == pytest.approx(estimate.queue_s + estimate.load_s + estimate.run_s)
