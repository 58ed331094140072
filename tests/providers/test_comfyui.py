"""ComfyUI before its stand-in on a real socket: what it is sent, what it answers, and what can go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from door import Bell
from vendors.comfy_app import ComfyStandIn
from vendors.faults import Cut, FailsWithin, Status, first
from vendors.serving import serving

from protos.errors import (
    Cancelled,
    FabricError,
    InputInvalid,
    ModelNotFound,
    NodeUnavailable,
    OutOfMemory,
    Overloaded,
    VendorRefused,
)
from protos.types import (
    Blob,
    Finished,
    ImageRequest,
    ImageResult,
    Modality,
    ModelId,
    Preview,
    Progress,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextRequest,
    Tier,
)
from providers.comfyui import ComfyApi, comfyui_provider
from providers.comfyui_wire import ID
from providers.watched import Pace, Watched
from providers.workflow import read_workflow

DRAW = ImageRequest(prompt="a red fox", width=32, height=16, steps=4, seed=7)
QUICK = Pace(healthy_s=0.05, failing_s=(0.02,))
BOUND_S = 60.0


@dataclass(frozen=True)
class Place:
    provider: Watched
    vendor: ComfyStandIn
    bell: Bell

    async def run(self, request: Any = DRAW, **more: Any) -> list[TaskEvent]:  # Any: any request, fields of a task
        async with asyncio.timeout(BOUND_S):
            return [event async for event in self.provider.run(Task(id=TaskId("t"), request=request, **more))]

    async def refusal(self, request: Any = DRAW) -> FabricError:  # Any: any request
        with pytest.raises(FabricError) as caught:
            await self.run(request)
        return caught.value


@asynccontextmanager
async def standing(vendor: ComfyStandIn, workflow: Path | None = None) -> AsyncIterator[Place]:
    async with serving(vendor.app()) as url:
        bell = Bell()
        async with started(comfyui_provider(url, workflow, bell, pace=QUICK), bell) as provider:
            yield Place(provider, vendor, bell)


@asynccontextmanager
async def started(provider: Watched, bell: Bell) -> AsyncIterator[Watched]:
    await provider.start()
    try:
        await bell.until_healthy(provider)
        yield provider
    finally:
        await provider.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with standing(ComfyStandIn()) as standing_place:
        yield standing_place


def pictures(events: list[TaskEvent]) -> list[Any]:
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert isinstance(finished.result, ImageResult)
    return list(finished.result.images)


def workflow_file(folder: Path, **inputs: str) -> Path:
    path = folder / "flux.json"
    save = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x-{{id}}"}}
    path.write_text(json.dumps({"1": {"class_type": "Flux", "inputs": inputs}, "9": save}))
    return path


# ---- what it has ----


async def test_its_models_are_the_checkpoints_that_it_has(place: Place) -> None:
    snapshot = place.provider.snapshot()
    assert (snapshot.tier, snapshot.is_remote) == (Tier.BASIC, False)
    assert [(offer.model, offer.modality, offer.is_default, offer.max_batch) for offer in snapshot.offers] == [
        ("sd15.safetensors", Modality.IMAGE, True, 1),
        ("sdxl.safetensors", Modality.IMAGE, False, 1),
    ]


async def test_a_workflow_with_its_checkpoint_built_in_is_the_one_model(tmp_path: Path) -> None:
    async with standing(ComfyStandIn(), workflow_file(tmp_path, text="{{prompt}}")) as place:
        assert [(offer.model, offer.is_default) for offer in place.provider.snapshot().offers] == [("flux", True)]
        assert pictures(await place.run(ImageRequest(prompt="a fox")))


# ---- drawing ----


async def test_a_picture_is_followed_step_by_step_and_fetched(place: Place) -> None:
    queued, begun, *between, _ = events = await place.run()
    assert (queued, begun) == (Queued(0), Started(begun.node_id, ModelId("sd15.safetensors")))  # type: ignore[union-attr]
    assert [event for event in between if isinstance(event, Progress)] == [
        Progress(step / 4, step, 4) for step in range(1, 5)
    ]
    assert [event.content_type for event in between if isinstance(event, Preview)] == ["image/png"]
    (picture,) = pictures(events)
    assert (picture.width, picture.height, picture.seed, picture.content_type) == (32, 16, 7, "image/png")
    assert picture.data.startswith(b"\x89PNG")


async def test_the_request_fills_the_workflow(place: Place) -> None:
    request = ImageRequest(
        prompt='a "red" fox',
        negative_prompt="blur",
        width=64,
        height=48,
        steps=3,
        guidance_scale=4.5,
        seed=9,
        scheduler="dpmpp_2m",
    )
    await place.run(request, model=ModelId("sdxl.safetensors"))
    graph = place.vendor.graphs[-1]
    assert graph["3"]["inputs"] | {"model": 0, "positive": 0, "negative": 0, "latent_image": 0} == {
        "seed": 9,
        "steps": 3,
        "cfg": 4.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "normal",
        "denoise": 1.0,
        "model": 0,
        "positive": 0,
        "negative": 0,
        "latent_image": 0,
    }
    assert graph["4"]["inputs"]["ckpt_name"] == "sdxl.safetensors"
    assert graph["5"]["inputs"] == {"width": 64, "height": 48, "batch_size": 1}
    assert (graph["6"]["inputs"]["text"], graph["7"]["inputs"]["text"]) == ('a "red" fox', "blur")


async def test_several_pictures_have_a_seed_each_and_one_progress(place: Place) -> None:
    events = await place.run(ImageRequest(prompt="a fox", n=2, steps=2, seed=5))
    assert [picture.seed for picture in pictures(events)] == [5, 6]
    assert [graph["3"]["inputs"]["seed"] for graph in place.vendor.graphs] == [5, 6]
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    assert [event.index for event in events if isinstance(event, Preview)] == [0, 1]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.usage.images == 2


async def test_without_a_seed_no_two_tasks_have_the_same(place: Place) -> None:
    request = ImageRequest(prompt="a fox", steps=1)
    await place.run(request)
    await place.run(request)
    one, other = (graph["3"]["inputs"]["seed"] for graph in place.vendor.graphs)
    assert one != other


async def test_a_picture_to_start_from_is_uploaded(tmp_path: Path) -> None:
    path = workflow_file(tmp_path, text="{{prompt}}", image="{{image}}", denoise="{{denoise=0.5}}")
    async with standing(ComfyStandIn(), path) as place:
        await place.run(ImageRequest(prompt="a fox", image=Blob(b"picture", "image/png"), strength=0.75))
        inputs = place.vendor.graphs[-1]["1"]["inputs"]
        ((name, data),) = place.vendor.uploads.items()
        assert (inputs["image"], inputs["denoise"], data) == (f"in/{name}", 0.75, b"picture")
        with pytest.raises(InputInvalid, match=r"input\.image: is missing: the workflow flux has no default"):
            await place.run(ImageRequest(prompt="a fox"))


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (ImageRequest(prompt=""), "input.prompt"),
        (ImageRequest(prompt="a", n=0), "params.n"),
        (ImageRequest(prompt="a", n=17), "params.n"),
        (ImageRequest(prompt="a", image=Blob(b"x")), "input.image"),
        (ImageRequest(prompt="a", strength=0.5), "params.strength"),
    ],
    ids=["no prompt", "none", "too many", "image", "strength"],
)
async def test_what_the_workflow_cannot_take_is_refused_by_name(
    place: Place, request_: ImageRequest, path: str
) -> None:
    error = await place.refusal(request_)
    assert isinstance(error, InputInvalid)
    assert path in error.message
    assert place.vendor.graphs == []


async def test_another_modality_is_not_its(place: Place) -> None:
    with pytest.raises(ModelNotFound, match="no text model"):
        await place.run(TextRequest(prompt="hi"))


# ---- its websocket ----


@pytest.mark.parametrize("messages", [0, 3, 6])
async def test_a_websocket_that_breaks_is_opened_again_and_the_picture_comes(place: Place, messages: int) -> None:
    place.vendor.plan = first(Cut(messages))
    assert len(pictures(await place.run())) == 1
    assert len(place.vendor.graphs) == 1  # it was not drawn twice


async def test_without_a_websocket_the_history_tells() -> None:
    async with standing(ComfyStandIn(has_socket=False)) as place:
        assert len(pictures(await place.run())) == 1


async def test_a_missed_end_is_found_in_the_history() -> None:
    vendor = ComfyStandIn()
    async with serving(vendor.app()) as url:
        bell = Bell()
        quiet = Watched(ID, url, ComfyApi(url, read_workflow(None), silence_s=0.05), bell, at_once=1, pace=QUICK)
        async with started(quiet, bell) as provider:
            vendor.go.clear()
            running = asyncio.create_task(Place(provider, vendor, bell).run())
            await vendor.drawing.wait()
            await asyncio.sleep(0.2)  # several silences long: each time it is asked whether it still draws
            vendor.go.set()
            assert len(pictures(await running)) == 1


# ---- what goes wrong ----


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputInvalid),
        (401, VendorRefused),
        (404, ModelNotFound),
        (429, Overloaded),
        (500, NodeUnavailable),
        (503, NodeUnavailable),
    ],
)
async def test_a_status_is_the_error_that_it_means(place: Place, status: int, kind: type[FabricError]) -> None:
    place.vendor.plan = first(Status(status, said="what comfy said", headers={"Retry-After": "4"}))
    error = await place.refusal()
    assert type(error) is kind
    if status in (429, 503):
        assert error.retry_after_s == 4
    if kind is not VendorRefused:  # whose reason may repeat a key
        assert "what comfy said" in error.message
    assert pictures(await place.run())


async def test_a_workflow_that_it_refuses_is_told_with_the_node(place: Place) -> None:
    place.vendor.checkpoints = ("other.safetensors",)  # removed since it was last asked
    error = await place.refusal()
    assert isinstance(error, InputInvalid | ModelNotFound)
    if isinstance(error, InputInvalid):
        assert "4: Value not in list ckpt_name: 'sd15.safetensors'" in error.message


@pytest.mark.parametrize("has_socket", [True, False])
@pytest.mark.parametrize(
    ("exception", "kind"), [("RuntimeError", NodeUnavailable), ("torch.OutOfMemoryError", OutOfMemory)]
)
async def test_a_node_that_fails_is_told_with_its_words(
    has_socket: bool, exception: str, kind: type[FabricError]
) -> None:
    async with standing(ComfyStandIn(has_socket=has_socket)) as place:
        place.vendor.plan = first(FailsWithin(kind=exception, said="Allocation on device"))
        error = await place.refusal()
    assert type(error) is kind
    assert "KSampler: Allocation on device" in error.message


async def test_a_server_that_has_lost_the_task_is_a_failure(place: Place) -> None:
    place.vendor.forgets = True
    async with serving(place.vendor.app()) as url:
        bell = Bell()
        quick = Watched(ID, url, ComfyApi(url, read_workflow(None), silence_s=0.05), bell, at_once=1, pace=QUICK)
        async with started(quick, bell) as provider:
            error = await Place(provider, place.vendor, bell).refusal()
    assert isinstance(error, NodeUnavailable)
    assert "was it restarted?" in error.message


async def test_a_workflow_that_saves_nothing_is_told(tmp_path: Path) -> None:
    async with standing(ComfyStandIn(saves=False), workflow_file(tmp_path, text="{{prompt}}")) as place:
        error = await place.refusal(ImageRequest(prompt="a"))
    assert isinstance(error, InputInvalid)
    assert "saved no picture" in error.message


async def test_a_cancel_interrupts_what_is_being_drawn(place: Place) -> None:
    place.vendor.go.clear()
    running = asyncio.create_task(place.refusal())
    async with asyncio.timeout(BOUND_S):
        await place.vendor.drawing.wait()
        await place.provider.cancel(TaskId("t"))
        assert isinstance(await running, Cancelled)
    ((interrupt,), deleted) = place.vendor.interrupts, place.vendor.deleted
    assert list(interrupt) == ["prompt_id"]
    assert deleted == []


async def test_a_caller_that_goes_away_takes_its_task_out_of_the_queue(place: Place) -> None:
    place.vendor.go.clear()
    first_one = asyncio.create_task(place.run())
    async with asyncio.timeout(BOUND_S):
        await place.vendor.drawing.wait()
        events = place.provider.run(Task(id=TaskId("second"), request=DRAW))
        while not isinstance(await anext(events), Started):
            pass
        waiting = asyncio.ensure_future(anext(events))
        while len(place.vendor.graphs) < 2:  # noqa: ASYNC110  # a server of its own: nothing tells
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait({waiting})
        await place.vendor.stopped.wait()
        assert len(place.vendor.deleted) == 1
        assert place.vendor.interrupts == []  # what another is having drawn goes on
        place.vendor.go.set()
        assert pictures(await first_one)


async def test_what_is_interrupted_at_comfyui_is_cancelled(place: Place) -> None:
    place.vendor.go.clear()
    running = asyncio.create_task(place.refusal())
    async with asyncio.timeout(BOUND_S):
        await place.vendor.drawing.wait()
        place.vendor.interrupt_now()
        error = await running
    assert isinstance(error, Cancelled)
    assert "interrupted at comfyui" in error.message
