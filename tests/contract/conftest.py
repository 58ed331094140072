"""The engines that keep the contract: a table; a new engine is one entry."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from node.engine import DeviceSpec, Engine, ModelSpec
from node.engines import loader
from protos.types import AudioRequest, Blob, EmbeddingRequest, ImageRequest, Modality, ModelId, TaskRequest, TextRequest

CPU: Final = DeviceSpec("cpu", 0, 1)
SEATS: Final = 3


@dataclass(frozen=True, slots=True)
class EngineCase:
    """How to make one engine of `SEATS` seats, and what to ask of it."""

    name: str  # in node/engines/__init__.py
    modality: Modality
    write_files: Callable[[Path], str]  # a small model into an empty folder -> the path of its ModelSpec
    request: Callable[[int], TaskRequest]  # of several steps when it can be; the number makes it a different one
    bad: TaskRequest  # of its modality, and invalid


def text_request(number: int) -> TaskRequest:
    return TextRequest(prompt=f"What is {number} plus 4?", temperature=0.0, max_tokens=6 + number)


def embedding_request(number: int) -> TaskRequest:
    return EmbeddingRequest(texts=[f"text {i} of {number}" for i in range(8)])


def image_request(number: int) -> TaskRequest:
    return ImageRequest(prompt=f"picture {number}", steps=2 + number, guidance_scale=float(number), seed=number)


def _no_files(_: Path) -> str:
    return ""


def _tiny_llama(folder: Path) -> str:
    import tiny

    return tiny.save(folder, tiny.llama_config())


def _tiny_bert(folder: Path) -> str:
    import tiny

    return tiny.save_encoder(folder, tiny.encoder_config())


def _tiny_pipeline(folder: Path) -> str:
    import tiny_pipelines

    return tiny_pipelines.save(tiny_pipelines.stable_diffusion(), folder)


@cache
def audio_request(number: int) -> TaskRequest:
    import small_whisper

    return AudioRequest(audio=small_whisper.flac(small_whisper.noise(9.0 + number, seed=number)), vad=False)


def seconds_request(number: int) -> TaskRequest:
    """For the fake: silence, a segment a second."""
    return AudioRequest(audio=Blob(bytes(32_000 * (2 + number))))


def _small_whisper(folder: Path) -> str:
    import small_whisper

    return str(small_whisper.save_terse(folder))


ENGINES: Final = (
    EngineCase("text", Modality.TEXT, _tiny_llama, text_request, TextRequest(prompt="")),
    EngineCase("embedding", Modality.EMBEDDING, _tiny_bert, embedding_request, EmbeddingRequest(texts=())),
    EngineCase("diffusion", Modality.IMAGE, _tiny_pipeline, image_request, ImageRequest(prompt="", n=9)),
    EngineCase("whisper", Modality.AUDIO, _small_whisper, audio_request, AudioRequest(audio=Blob(b""))),
    EngineCase("fake", Modality.TEXT, _no_files, text_request, TextRequest(prompt="")),
    EngineCase("fake-beside", Modality.AUDIO, _no_files, seconds_request, AudioRequest(audio=Blob(b""))),
    EngineCase("fake", Modality.EMBEDDING, _no_files, embedding_request, EmbeddingRequest(texts=())),
)


@pytest.fixture(scope="session", params=ENGINES, ids=lambda case: f"{case.name}-{case.modality}")
def engine_case(request: pytest.FixtureRequest) -> EngineCase:
    return request.param


@pytest.fixture(scope="session")
def load_engine(engine_case: EngineCase, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Engine]:
    path = engine_case.write_files(tmp_path_factory.mktemp("model"))
    spec = ModelSpec(
        id=ModelId("contracted"),
        engine=engine_case.name,
        modality=engine_case.modality,
        path=path,
        seats=SEATS,
        step_tokens=16,
    )
    return lambda: loader(engine_case.name)(spec, CPU)


@pytest.fixture(scope="session")
def _shared_engine(load_engine: Callable[[], Engine]) -> Engine:
    return load_engine()


@pytest.fixture
def engine(_shared_engine: Engine) -> Iterator[Engine]:
    """One engine for all tests of its case, empty before and after each."""
    yield _shared_engine
    assert _shared_engine.seated == 0, "the test left a task seated"


# ---- company: the engines with a model, over the models that ship where they are named ----


@pytest.fixture(scope="session")
def shipped_models() -> Mapping[str, str]:
    """Folders of real small models by engine. An engine that is not named here gets a tiny random one."""
    root = Path(__file__).parents[2] / "models"
    return {
        "text": str(root / "fabric-chat"),
        "diffusion": str(root / "fabric-image"),
        "whisper": str(root / "fabric-whisper"),
    }


@pytest.fixture(
    scope="session", params=[case for case in ENGINES if "fake" not in case.name], ids=lambda case: case.name
)
def company_case(request: pytest.FixtureRequest) -> EngineCase:
    return request.param


@pytest.fixture(scope="session")
def _company_engine(
    company_case: EngineCase, shipped_models: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Engine:
    name = company_case.name
    path = shipped_models.get(name) or company_case.write_files(tmp_path_factory.mktemp("company"))
    spec = ModelSpec(
        id=ModelId("company"), engine=name, modality=company_case.modality, path=path, seats=SEATS, step_tokens=16
    )
    return loader(name)(spec, CPU)


@pytest.fixture
def company_engine(_company_engine: Engine) -> Iterator[Engine]:
    """One engine for all tests of its case, empty before and after each."""
    yield _company_engine
    assert _company_engine.seated == 0, "the test left a task seated"
