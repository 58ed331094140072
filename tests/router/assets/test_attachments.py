"""Files in and out of jobs: what a job's row keeps, what a place is sent, what a result becomes."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attached import LIMITS, assets_in, attachments_of
from scripted import ORGANIZATION, ManualClock, a_job, a_request

from protos.errors import NotFound, QuotaExceeded
from protos.types import (
    AudioRequest,
    Blob,
    EmbeddingResult,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    Modality,
    OrganizationId,
    TextResult,
)
from router.assets.attachments import LARGE_BYTES, Attachments
from router.assets.library import Assets, Claims
from router.jobs import Json, new_job
from router.store.sql import SqlStore
from router.tasks import output_of, task_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
BASE64 = base64.b64encode(PNG).decode()


@dataclass
class Rig:
    attachments: Attachments
    assets: Assets
    clock: ManualClock

    async def kept_ids(self) -> list[str]:
        return [asset.id for asset in await self.assets.listed(ORGANIZATION, 100, 0)]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with asyncio.timeout(60):
        store, clock = SqlStore("sqlite://", lambda _: None), ManualClock()
        await store.open()
        assets = assets_in(tmp_path, store, clock)
        await assets.open()
        yield Rig(attachments_of(assets, clock), assets, clock)
        await assets.close()
        await store.close()


@pytest.mark.parametrize("text", [BASE64, f"data:image/png;base64,{BASE64}"])
async def test_a_picture_that_comes_with_a_job_reaches_the_place_that_draws(rig: Rig, text: str) -> None:
    given = a_request(modality=Modality.IMAGE, input={"prompt": "a", "image": text})
    asked, made = await rig.attachments.keep(given)
    assert made is not None
    assert asked.input == {"prompt": "a", "image": made.id}
    assert made.expires_at == rig.clock.now + LIMITS.retention_s
    job = new_job(asked, rig.clock.now)
    async with rig.attachments.loaded(job) as file:
        assert task_of(job, file).request == ImageRequest(prompt="a", image=Blob(PNG, "image/png"))


async def test_a_sound_that_comes_with_a_job_reaches_the_place_that_listens(rig: Rig) -> None:
    given = a_request(modality=Modality.AUDIO, input={"audio": f"data:audio/x-mine;base64,{BASE64}", "asset_id": None})
    asked, made = await rig.attachments.keep(given)
    assert made is not None
    assert asked.input == {"asset_id": made.id}
    job = new_job(asked, rig.clock.now)
    async with rig.attachments.loaded(job) as file:
        assert task_of(job, file).request == AudioRequest(audio=Blob(PNG, "audio/x-mine"))


async def test_a_job_without_a_file_stays_as_it_is(rig: Rig) -> None:
    for modality, given in ((Modality.TEXT, {"prompt": "a"}), (Modality.IMAGE, {"prompt": "a"})):
        request = a_request(modality=modality, input=given)
        assert await rig.attachments.keep(request) == (request, None)
        async with rig.attachments.loaded(a_job(modality=modality, input=given)) as file:
            assert file is None
    assert await rig.kept_ids() == []


async def test_what_was_kept_for_no_job_is_dropped(rig: Rig) -> None:
    _, made = await rig.attachments.keep(a_request(modality=Modality.AUDIO, input={"audio": BASE64}))
    for _ in range(2):
        await rig.attachments.drop(made)
    await rig.attachments.drop(None)
    assert await rig.kept_ids() == []


async def test_another_organization_s_asset_is_not_found_with_the_field(rig: Rig) -> None:
    asset = await rig.assets.attach(OrganizationId("other"), PNG, Claims())
    for modality, given, path in (
        (Modality.AUDIO, {"asset_id": asset.id}, "input.asset_id"),
        (Modality.IMAGE, {"prompt": "a", "image": asset.id}, "input.image"),
    ):
        with pytest.raises(NotFound, match=path):
            await rig.attachments.keep(a_request(modality=modality, input=given))
        with pytest.raises(NotFound, match=path):
            async with rig.attachments.loaded(a_job(modality=modality, input=given)):
                raise AssertionError("it was found")


async def test_no_file_comes_in_over_a_spent_quota_and_no_picture_is_begun(rig: Rig) -> None:
    size = LIMITS.file_bytes
    for index in range(LIMITS.quota_bytes // size):
        await rig.assets.attach(ORGANIZATION, bytes([index]) * size, Claims())
    for modality, given in ((Modality.AUDIO, {"audio": BASE64}), (Modality.IMAGE, {"prompt": "a"})):
        with pytest.raises(QuotaExceeded):
            await rig.attachments.keep(a_request(modality=modality, input=given))
    text = a_request()
    assert await rig.attachments.keep(text) == (text, None)


async def test_pictures_become_assets_in_their_order(rig: Rig) -> None:
    pictures = [GeneratedImage(PNG + bytes([index]), "image/png", 8, 16, index) for index in range(3)]
    output = await rig.attachments.output(ORGANIZATION, ImageResult(pictures))
    assert [image["seed"] for image in output["images"]] == [0, 1, 2]
    for image, picture in zip(output["images"], pictures, strict=True):
        asset = await rig.assets.get(ORGANIZATION, image["asset_id"])
        assert await rig.assets.read(asset) == picture.data
        assert f"/v1/assets/{asset.id}?expires=" in image["url"]


async def test_only_many_embeddings_are_kept_apart_from_their_job(rig: Rig) -> None:
    few, many = EmbeddingResult(2, struct.pack("<2f", 1.0, 0.5)), EmbeddingResult(1024, bytes(4 * 1024 * 20))
    assert await rig.attachments.stored_output(ORGANIZATION, few) == output_of(few)
    text = TextResult("x" * 2 * LARGE_BYTES, "stop")
    assert await rig.attachments.stored_output(ORGANIZATION, text) == output_of(text)
    stored = await rig.attachments.stored_output(ORGANIZATION, many)
    assert len(json.dumps(stored)) < 1000
    assert (stored["embeddings"], stored["dimensions"]) == (None, 1024)

    async def whole(output: Json | None) -> Json | None:
        job = new_job(a_request(modality=Modality.EMBEDDING, input={"text": "a"}), rig.clock.now)
        return (await rig.attachments.whole(replace(job, output=output))).output

    assert await whole(stored) == output_of(many)
    assert await whole(output_of(few)) == output_of(few)
    assert await whole(None) is None
    rig.clock.now += LIMITS.retention_s
    assert await whole(stored) == stored


async def test_files_of_jobs_that_run_take_no_more_memory_than_there_is(rig: Rig) -> None:
    """Room for two of them; the third comes in when one has ended."""
    size = LIMITS.file_bytes
    assets = [await rig.assets.attach(ORGANIZATION, bytes([index]) * size, Claims()) for index in range(3)]
    jobs = [a_job(modality=Modality.AUDIO, input={"asset_id": asset.id}) for asset in assets]
    ends = [asyncio.Event() for _ in jobs]
    inside: asyncio.Queue[int] = asyncio.Queue()

    async def run(index: int) -> None:
        async with rig.attachments.loaded(jobs[index]) as file:
            assert file is not None
            assert file.data == bytes([index]) * size
            inside.put_nowait(index)
            await ends[index].wait()

    async with asyncio.TaskGroup() as tasks:
        for index in range(3):
            tasks.create_task(run(index))
        first = {await inside.get(), await inside.get()}
        text = a_job()
        async with rig.attachments.loaded(text) as file:  # a job without a file waits for nobody
            assert file is None
        assert inside.empty()
        ends[first.pop()].set()
        last = await inside.get()
        assert last not in first
        for end in ends:
            end.set()
