"""Tiny pipelines on disk, each with the stock pipeline that its engine must equal."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny import CPU

from node.engine import ModelSpec
from node.engines.diffusion import load
from node.engines.diffusion.engine import DiffusionEngine
from protos.types import Modality, ModelId

Stock = Any  # a pipeline of diffusers
MAKE: dict[str, tuple[Callable[[], Stock], Any]] = {
    "unet": (tiny_pipelines.stable_diffusion, StableDiffusionPipeline),
    "sdxl": (tiny_pipelines.stable_diffusion_xl, StableDiffusionXLPipeline),
    "sd3": (tiny_pipelines.stable_diffusion_3, StableDiffusion3Pipeline),
    "flux": (tiny_pipelines.flux, FluxPipeline),
    "schnell": (tiny_pipelines.flux_schnell, FluxPipeline),
}


def spec_of(path: str, seats: int = 4) -> ModelSpec:
    return ModelSpec(id=ModelId("tiny"), engine="diffusion", modality=Modality.IMAGE, path=path, seats=seats)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=MAKE)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def stock(family: str) -> Stock:
    pipeline = MAKE[family][0]()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_tiling()
    return pipeline


@pytest.fixture(scope="session")
def folder(stock: Stock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_pipelines.save(stock, tmp_path_factory.mktemp("pipeline")))


@pytest.fixture(scope="session")
def _shared(folder: Path) -> DiffusionEngine:
    return load(spec_of(str(folder)), CPU)


@pytest.fixture
def engine(_shared: DiffusionEngine) -> Iterator[DiffusionEngine]:
    """One engine for all tests of its family, empty before and after each."""
    yield _shared
    assert _shared.seated == 0, "the test left a task seated"


@pytest.fixture
def load_folder() -> Callable[[Path], DiffusionEngine]:
    return lambda path: load(spec_of(str(path)), CPU)
