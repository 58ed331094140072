"""A node over real gRPC: what works, and each bad input with its named error."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from node.engine import ModelSpec
from node.engines.fake import FakeEngine, Faults
from protos import codec
from protos.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Draining,
    FabricError,
    IdempotencyKeyReused,
    InputInvalid,
    Internal,
    LoadFailed,
    ModelNotFound,
    NotFound,
    Overloaded,
)
from protos.fabric.node.v1 import node_pb2 as pb
from protos.grpc_status import from_rpc_error
from protos.types import (
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    Finished,
    ImageRequest,
    ImageResult,
    ModelId,
    ModelState,
    NodeStatus,
    Queued,
    Started,
    Task,
    TaskId,
    TextDelta,
    TextRequest,
    TextResult,
)

StartNode = Callable[..., AbstractAsyncContextManager[Any]]  # tests/node/conftest.py: a Client

ALL = """
[[model]]
id = "paint"
engine = "fake"
modality = "image"
default = true
[[model]]
id = "listen"
engine = "fake"
modality = "audio"
default = true
"""


def text(task_id: str = "t", prompt: str = "hello big world", **more: Any) -> Task:
    return Task(id=TaskId(task_id), request=TextRequest(prompt=prompt), **more)


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


async def error_of(call: Any) -> FabricError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, "the node")


async def drained(call: Any) -> None:
    async for _ in call:
        pass


async def status_when(client: Any, is_so: Callable[[NodeStatus], bool]) -> NodeStatus:
    """The first status of the watch that is so."""
    async for message in client.stub.WatchStatus(pb.StatusRequest(interval_s=0.05)):
        status = codec.status_from(message)
        if is_so(status):
            return status
    raise AssertionError("the watch ended")


def model(status: NodeStatus, name: str) -> Any:
    return next(m for m in status.models if m.model.id == name)


# ---- what works ----


async def test_a_chat_is_queued_started_spoken_and_finished(start_node: StartNode) -> None:
    async with start_node() as client:
        await client.run(text("before"))  # while the model is being loaded nobody can say how long it will take
        events = await client.run(text())
    queued, started = events[:2]
    assert isinstance(queued, Queued)
    assert queued.position == 0
    assert queued.eta_s is not None
    assert started == Started(client.daemon.service.status().node_id, ModelId("talk"))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "hello big world"
    assert isinstance(events[-1], Finished)
    assert events[-1].result == TextResult("hello big world", "stop")
    assert 0 <= events[-1].timings.queued_s <= events[-1].timings.first_output_s <= events[-1].timings.total_s


async def test_vectors_pictures_and_segments_cross_whole(start_node: StartNode) -> None:
    async with start_node(ALL) as client:
        painted = (await client.run(Task(id=TaskId("p"), request=ImageRequest(prompt="a", n=2, width=9, height=7))))[-1]
        heard = (await client.run(Task(id=TaskId("h"), request=AudioRequest(audio=Blob(b"x" * 64_000)))))[-1]
    assert isinstance(painted.result, ImageResult)
    assert [image.data[:4] for image in painted.result.images] == [b"\x89PNG"] * 2
    assert isinstance(heard.result, AudioResult)
    assert len(heard.result.segments) == 2


async def test_a_model_that_is_not_loaded_is_loaded_by_its_first_task(start_node: StartNode) -> None:
    async with start_node() as client:
        await client.run(Task(id=TaskId("e"), request=EmbeddingRequest(texts=["a"])))
        assert model(client.daemon.service.status(), "embed").model.state == ModelState.READY


async def test_a_second_call_joins_and_gets_the_text_so_far_in_one_piece(start_node: StartNode) -> None:
    gate = threading.Event()
    spoken = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(_: float) -> None:  # the third step waits at the gate
        work.calls += 1  # type: ignore[attr-defined]
        if work.calls == 4:  # type: ignore[attr-defined]  # the first was the warm-up
            loop.call_soon_threadsafe(spoken.set)
            gate.wait()

    work.calls = 0  # type: ignore[attr-defined]
    async with start_node(load=lambda spec: FakeEngine(spec, work=work)) as client:
        first = asyncio.create_task(client.run(text(prompt="a b c d")))
        await spoken.wait()
        second = client.events(text(prompt="a b c d"))
        joined = [await anext(second) for _ in range(3)]
        gate.set()
        rest = [event async for event in second]
        assert joined[2] == TextDelta("a b")
        assert rest[-1].result == (await first)[-1].result


async def test_large_bytes_are_staged_ahead_of_their_task(start_node: StartNode) -> None:
    async def chunks() -> AsyncIterator[pb.UploadChunk]:
        for _ in range(3):
            yield pb.UploadChunk(blob_id="b", data=b"x" * 32_000)

    async with start_node(ALL) as client:
        assert (await client.stub.Upload(chunks())).size_bytes == 96_000
        request = pb.Task(id="a", audio=pb.AudioRequest(audio=pb.Blob(blob_id="b")))
        reader = codec.EventReader()
        events = [reader.read(message) async for message in client.stub.Execute(request)]
        assert events[-1].result.duration_s == 3.0


async def test_models_load_and_unload_by_request(start_node: StartNode) -> None:
    async with start_node() as client:
        assert (
            codec.model_from(await client.stub.LoadModel(pb.LoadModelRequest(model="embed"))).state == ModelState.READY
        )
        gone = codec.model_from(await client.stub.UnloadModel(pb.UnloadModelRequest(model="embed")))
        assert gone.state == ModelState.UNLOADED
        assert client.daemon.service.status().device.reserved_bytes < 3 << 20


async def test_a_model_with_keep_alive_0_is_unloaded_after_its_task(start_node: StartNode) -> None:
    async with start_node(ALL.replace("default", "keep_alive = 0\ndefault")) as client:
        await client.run(Task(id=TaskId("p"), request=ImageRequest(prompt="a")))
        await status_when(client, lambda status: model(status, "paint").model.state == ModelState.UNLOADED)


async def test_an_estimate_runs_nothing_and_says_what_is_assumed(start_node: StartNode) -> None:
    async with start_node() as client:
        await status_when(client, lambda status: status.ready)
        estimate = codec.estimate_from(await client.stub.Estimate(codec.task_message(text())))
        assert (estimate.model, estimate.usage.output_tokens, estimate.fits_memory) == ("talk", 3, True)
        assert model(client.daemon.service.status(), "talk").succeeded == 0


async def test_health_and_reflection_are_served(start_node: StartNode) -> None:
    async with start_node() as client:
        await status_when(client, lambda status: status.ready)
        health = health_pb2_grpc.HealthStub(client.channel)
        for service in ("", "talk"):
            async for reply in health.Watch(health_pb2.HealthCheckRequest(service=service)):
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        reflection = reflection_pb2_grpc.ServerReflectionStub(client.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection.ServerReflectionInfo(iter([request])):
            assert "fabric.node.v1.Node" in {service.name for service in answer.list_services_response.service}


async def test_the_status_tells_what_runs_and_what_was_done(start_node: StartNode) -> None:
    async with start_node() as client:
        await client.run(text())
        status = codec.status_from(await client.stub.GetStatus(pb.StatusRequest()))
    talk = model(status, "talk")
    assert (talk.succeeded, talk.waiting, talk.running, talk.waiting_limit) == (1, 0, 0, 256)
    assert status.device.reserved_bytes >= status.device.used_bytes > 0


# ---- bad input ----


async def test_an_unknown_model_is_named_with_those_that_exist(start_node: StartNode) -> None:
    async with start_node() as client:
        error = await client.error_of(text(model=ModelId("gpt")))
        assert isinstance(error, ModelNotFound)
        assert "'gpt'" in error.message
        assert "talk" in error.message
        assert isinstance(await client.error_of(text(model=ModelId("embed"))), ModelNotFound)
        assert isinstance(await client.error_of(Task(id=TaskId("i"), request=ImageRequest(prompt="a"))), ModelNotFound)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (pb.Task(id="t"), "request"),
        (pb.Task(text=pb.TextRequest(prompt="a")), "id"),
        (pb.Task(id="t", text=pb.TextRequest(prompt="a"), priority=101), "priority"),
        (pb.Task(id="t", text=pb.TextRequest(prompt="a"), timeout_s=0), "timeout_s"),
        (pb.Task(id="t", text=pb.TextRequest(prompt=" ")), "prompt"),
    ],
)
async def test_a_wrong_field_is_named(start_node: StartNode, message: pb.Task, path: str) -> None:
    async with start_node() as client:
        error = await error_of(drained(client.stub.Execute(message)))
    assert isinstance(error, InputInvalid)
    assert error.details["errors"][0]["path"] == path  # type: ignore[index]


async def test_a_full_room_refuses_the_next_task_and_says_when_to_retry(start_node: StartNode) -> None:
    gate = threading.Event()
    models = (
        '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\ndefault = true\nseats = 1\nwaiting_limit = 1\n'
    )
    async with start_node(models, faults=Faults(gate=gate)) as client:
        seated = client.events(text("seated"))
        assert [type(await anext(seated)) for _ in range(2)] == [Queued, Started]
        waits = asyncio.create_task(client.run(text("waits")))
        await status_when(client, lambda status: model(status, "talk").waiting == 1)
        error = await client.error_of(text("refused"))
        gate.set()
        assert isinstance((await waits)[-1], Finished)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s == 1.0


async def test_a_cancelled_task_ends_at_the_step_boundary_and_frees_its_seat(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        running = client.events(text())
        assert [type(await anext(running)) for _ in range(2)] == [Queued, Started]
        await client.stub.Cancel(pb.CancelRequest(task_id="t"))
        gate.set()
        with pytest.raises(Cancelled, match="by request"):
            await anext(running)
        assert isinstance((await client.run(text("next")))[-1], Finished)
        status = model(client.daemon.service.status(), "talk")
        assert (status.cancelled, status.succeeded, status.running) == (1, 1, 0)


async def test_a_cancel_of_nobody_is_not_found(start_node: StartNode) -> None:
    async with start_node() as client:
        assert isinstance(await error_of(client.stub.Cancel(pb.CancelRequest(task_id="nobody"))), NotFound)


async def test_a_vanished_caller_frees_the_seat(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        call = client.stub.Execute(codec.task_message(text()))
        assert (await call.read()).WhichOneof("event") == "queued"
        await status_when(client, lambda status: model(status, "talk").running == 1)
        call.cancel()
        await status_when(client, lambda status: model(status, "talk").cancelled == 1)
        gate.set()
        assert isinstance((await client.run(text("next")))[-1], Finished)


async def test_a_task_lives_on_while_one_of_two_callers_stays(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        stays, goes = client.events(text()), client.events(text())
        assert isinstance(await anext(stays), Queued)
        assert isinstance(await anext(goes), Queued)
        await goes.aclose()
        gate.set()
        assert isinstance([event async for event in stays][-1], Finished)


async def test_a_task_over_its_time_ends_with_its_timeout(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        await status_when(client, lambda status: status.ready)
        error = await client.error_of(text(timeout_s=1.0))  # in which it gets its seat, also on a slow machine
        gate.set()
    assert isinstance(error, DeadlineExceeded)
    assert "1.0 s: it had its seat for" in error.message


async def test_a_task_whose_time_is_over_while_it_waits_says_so_and_leaves_its_place(start_node: StartNode) -> None:
    gate = threading.Event()
    models = (
        '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\ndefault = true\nseats = 1\nwaiting_limit = 1\n'
    )
    async with start_node(models, faults=Faults(gate=gate)) as client:
        seated = client.events(text("seated"))
        assert [type(await anext(seated)) for _ in range(2)] == [Queued, Started]
        error = await client.error_of(text("late", timeout_s=0.05))
        next_one = asyncio.create_task(client.run(text("next")))
        gate.set()
        assert isinstance((await next_one)[-1], Finished)
        await seated.aclose()
    assert isinstance(error, DeadlineExceeded)
    assert "it still waited for a seat" in error.message


async def test_an_id_that_runs_cannot_be_used_for_another_request(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        running = client.events(text())
        await anext(running)
        error = await client.error_of(text(prompt="something else"))
        gate.set()
        await running.aclose()
    assert isinstance(error, IdempotencyKeyReused)


async def test_a_cancelled_id_may_come_again_at_once(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        first = client.events(text(prompt="old words"))
        assert [type(await anext(first)) for _ in range(2)] == [Queued, Started]
        await client.stub.Cancel(pb.CancelRequest(task_id="t"))
        again = asyncio.create_task(client.run(text(prompt="new")))
        await status_when(client, lambda status: model(status, "talk").waiting == 1)
        gate.set()
        assert (await again)[-1].result == TextResult("new", "stop")


async def test_a_step_that_throws_fails_its_task_and_the_node_serves_on(start_node: StartNode) -> None:
    async with start_node(faults=Faults(throws_on="poison")) as client:
        assert isinstance(await client.error_of(text(prompt="poison")), Internal)
        assert isinstance((await client.run(text("next")))[-1], Finished)


async def test_a_model_that_cannot_be_loaded_fails_its_tasks_and_shows_why(start_node: StartNode) -> None:
    def load(_spec: ModelSpec) -> FakeEngine:
        raise OSError("the disk is gone")

    async with start_node(load=load) as client:
        error = await client.error_of(text())
        status = await status_when(client, lambda status: model(status, "talk").model.state == ModelState.FAILED)
        assert isinstance(await client.error_of(text("soon after")), LoadFailed)
    assert isinstance(error, LoadFailed)
    assert "the disk is gone" in error.message
    assert not status.ready
    assert "the disk is gone" in status.reason


async def test_a_failed_load_is_tried_again_by_a_later_request(start_node: StartNode) -> None:
    broken = ["once"]

    def load(spec: ModelSpec) -> FakeEngine:
        if broken and spec.id == "talk":
            broken.clear()
            raise OSError("the disk is gone")
        return FakeEngine(spec)

    async with start_node(load=load, load_retry_s=0.0) as client:
        await status_when(client, lambda status: model(status, "talk").model.state == ModelState.FAILED)
        assert isinstance((await client.run(text()))[-1], Finished)


async def test_a_model_with_tasks_cannot_be_unloaded(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        running = client.events(text())
        assert [type(await anext(running)) for _ in range(2)] == [Queued, Started]
        error = await error_of(client.stub.UnloadModel(pb.UnloadModelRequest(model="talk")))
        gate.set()
        await running.aclose()
    assert isinstance(error, Conflict)


async def test_staged_bytes_are_bounded_and_asked_for_by_name(start_node: StartNode) -> None:
    async def chunks() -> AsyncIterator[pb.UploadChunk]:
        yield pb.UploadChunk(blob_id="b", data=b"x" * 2000)

    async with start_node(ALL, upload_bytes=1000) as client:
        assert isinstance(await error_of(client.stub.Upload(chunks())), Overloaded)
        request = pb.Task(id="a", audio=pb.AudioRequest(audio=pb.Blob(blob_id="b")))
        assert isinstance(await error_of(drained(client.stub.Execute(request))), NotFound)


# ---- drain ----


async def test_a_drain_lets_the_seated_end_and_sends_the_others_away(start_node: StartNode) -> None:
    gate = threading.Event()
    models = '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\ndefault = true\nseats = 1\n'
    async with start_node(models, faults=Faults(gate=gate)) as client:
        seated = client.events(text("seated"))
        assert [type(await anext(seated)) for _ in range(2)] == [Queued, Started]
        waits = asyncio.create_task(client.error_of(text("waits")))
        await status_when(client, lambda status: model(status, "talk").waiting == 1)
        drained = asyncio.ensure_future(client.stub.Drain(pb.DrainRequest(timeout_s=20)))
        assert isinstance(await waits, Draining)
        assert isinstance(await client.error_of(text("late")), Draining)
        gate.set()
        assert isinstance([event async for event in seated][-1], Finished)
        assert (await drained).cancelled == 0


async def test_a_drain_cancels_what_does_not_end_in_time(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate)) as client:
        seated = client.events(text())
        assert [type(await anext(seated)) for _ in range(2)] == [Queued, Started]
        assert (await client.stub.Drain(pb.DrainRequest(timeout_s=0))).cancelled == 1
        with pytest.raises(Cancelled, match="shut down"):
            await anext(seated)
        gate.set()


async def test_work_without_a_step_makes_the_node_unready(start_node: StartNode) -> None:
    gate = threading.Event()
    async with start_node(faults=Faults(gate=gate), stall_s=0.01) as client:
        await status_when(client, lambda status: status.ready)
        running = client.events(text())
        assert [type(await anext(running)) for _ in range(2)] == [Queued, Started]
        status = await status_when(client, lambda status: not status.ready)
        gate.set()
        await running.aclose()
    assert "a step of model 'talk' has not come back" in status.reason
