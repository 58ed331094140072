"""Engines over tiny real models."""

from collections.abc import Iterator

import pytest
import tiny
import torch

from node.engine import Engine
from node.engines.text import load


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # with more, OpenMP's barriers collapse on a busy machine


@pytest.fixture(scope="session")
def llama_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save(tmp_path_factory.mktemp("llama"), tiny.llama_config())


@pytest.fixture(scope="session")
def llama_engine(llama_path: str) -> Engine:
    return load(tiny.spec_of(llama_path, step_tokens=16), tiny.CPU)


@pytest.fixture
def desk(llama_engine: Engine) -> Iterator[tiny.Desk]:
    """A tiny Llama with 4 seats, 96 tokens of context and 16 tokens a step."""
    desk = tiny.Desk(llama_engine)
    yield desk
    assert desk.engine.seated == 0, "the test left a task seated"
