"""A tiny random speech model of three languages whose every answer is taken."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import small_whisper

from node.engine import Engine
from node.engines.whisper.decoding import Decoding
from node.engines.whisper.engine import WhisperEngine
from node.engines.whisper.model import Ears, load_model


@pytest.fixture(scope="session")
def multilingual_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_whisper.save_multilingual(tmp_path_factory.mktemp("multilingual"))


@pytest.fixture(scope="session")
def babbling_engine(multilingual_path: Path) -> Engine:
    spec = small_whisper.spec_of(multilingual_path)
    decoding = Decoding(logprob_threshold=-1e9, compression_ratio_threshold=1e9)
    return WhisperEngine(spec, Ears(load_model(spec, small_whisper.CPU), decoding), decoding, "cpu")


@pytest.fixture
def babbling(babbling_engine: Engine) -> Iterator[small_whisper.Desk]:
    """The tiny random model; all that it says is good enough, so every answer is the same each time."""
    yield small_whisper.Desk(babbling_engine)
    assert babbling_engine.seated == 0, "the test left a task seated"
