"""Pictures through a running node: several at once, from a picture, and each request that cannot be drawn."""

import io
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
import tiny_pipelines
from PIL import Image

from protos.errors import InputInvalid
from protos.types import Blob, Finished, ImageRequest, ImageResult, Progress, Task, TaskId

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client
DOG = ImageRequest(prompt="a red dog", steps=3, seed=7, guidance_scale=3.0)


@pytest.fixture(scope="session")
def pipeline_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_pipelines.save(tiny_pipelines.stable_diffusion(), tmp_path_factory.mktemp("served"))


@pytest.fixture
async def client(start_node: StartNode, pipeline_path: str) -> AsyncIterator[Any]:
    models = f"""
        [[model]]
        id = "paint"
        engine = "diffusion"
        path = "{pipeline_path}"
        default = true
    """
    async with start_node(models, are_real=True, threads=1) as client:
        yield client


def task_of(request: ImageRequest) -> Task:
    return Task(id=TaskId("t"), request=request)


async def drawn(client: Any, request: ImageRequest) -> ImageResult:  # Any: a Client
    *_, last = await client.run(task_of(request))
    assert isinstance(last, Finished)
    assert isinstance(last.result, ImageResult)
    return last.result


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A small picture whose header claims to be that large."""
    whole = png(8, 8)
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
    return whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]


async def test_several_pictures_of_a_request_are_those_of_their_seeds(client: Any) -> None:
    several = await drawn(client, replace(DOG, n=3))
    single = [await drawn(client, replace(DOG, seed=seed)) for seed in (7, 8, 9)]
    assert [image.seed for image in several.images] == [7, 8, 9]
    for image, alone in zip(several.images, single, strict=True):
        pixels = [Image.open(io.BytesIO(one.data)) for one in (image, alone.images[0])]
        assert pixels[0].info == pixels[1].info
        assert pixels[0].info["prompt"] == "a red dog"
        both = [list(one.tobytes()) for one in pixels]
        assert max(abs(a - b) for a, b in zip(*both, strict=True)) <= 1


async def test_a_picture_from_a_picture_has_its_size_and_depends_on_it(client: Any) -> None:
    asked = replace(DOG, strength=0.7, image=Blob(png(24, 16), "image/png"))
    (image,) = (await drawn(client, asked)).images
    (other,) = (
        await drawn(client, replace(asked, image=Blob(claiming(8, 8), "image/png"), width=24, height=16))
    ).images
    assert (image.width, image.height) == (24, 16)
    assert Image.open(io.BytesIO(image.data)).size == (24, 16)
    (plain,) = (await drawn(client, replace(DOG, width=24, height=16))).images
    assert image.data != plain.data
    assert other.width == 24


async def test_progress_is_told_at_every_step(client: Any) -> None:
    events = await client.run(task_of(DOG))
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"width": 17}, "width", "must be a multiple of 2"),
        ({"width": 64, "height": 64}, "width", "x height may be at most 1,024 pixels, got 64 x 64 = 4,096"),
        ({"steps": 0}, "steps", "must be from 1 to 1000, got 0"),
        ({"n": 9}, "n", "must be from 1 to 8, got 9"),
        ({"image": Blob(b"this is no picture")}, "image", "18 bytes cannot be read as a picture"),
        ({"image": Blob(png(64, 64)[:50])}, "image", "50 bytes cannot be read as a picture"),
        ({"image": Blob(claiming(60_000, 60_000))}, "image", "claims too many pixels"),
        ({"image": Blob(claiming(8_000, 8_001))}, "image", "has 8000 x 8001 pixels: send at most 64,000,000"),
    ],
    ids=["width", "size", "steps", "n", "no-picture", "cut", "bomb", "large"],
)
async def test_what_cannot_be_drawn_is_refused_by_its_field(
    client: Any, changes: dict[str, Any], field: str, message: str
) -> None:
    error = await client.error_of(task_of(replace(DOG, **changes)))
    assert isinstance(error, InputInvalid)
    assert {wrong["path"] for wrong in error.details["errors"]} == {field}
    assert message in error.message
