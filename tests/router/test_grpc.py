"""The router's gRPC door, over real sockets: a node of fake engines and echo behind it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from door import Bell, Door, open_door
from edge import BOUND_S, fake_node
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from scripted import STARTED, Scripted, said
from vendors.openai_app import OpenAIStandIn
from vendors.places import KEY as VENDOR_KEY
from vendors.places import key_of, only
from vendors.serving import serving

from node.daemon import Daemon
from protos import codec
from protos.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    FabricError,
    Forbidden,
    IdempotencyKeyReused,
    InputInvalid,
    Internal,
    ModelNotFound,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthorized,
)
from protos.fabric.node.v1 import node_pb2 as pb
from protos.fabric.node.v1 import node_pb2_grpc
from protos.grpc_status import from_rpc_error
from protos.types import (
    DEFAULT_ORGANIZATION,
    AudioRequest,
    AudioResult,
    Blob,
    EmbeddingRequest,
    EmbeddingResult,
    Finished,
    ImageRequest,
    ImageResult,
    ModelId,
    ModelState,
    OrganizationId,
    ProviderId,
    Queued,
    Started,
    Task,
    TaskEvent,
    TaskId,
    TextDelta,
    TextRequest,
    TextResult,
    Tier,
    Usage,
)
from providers.echo import Echo
from providers.node import NodeProvider
from providers.openai import openai_provider
from providers.pricing import cost_micro
from router.grpc import held_to_rates
from router.limits import Rate, RateLimits
from router.principals import Principal, Scope
from router.store import usage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Box:
    """A router with a node and echo, its door, and a client of that."""

    door: Door
    node: Daemon
    gate: threading.Event  # while a test holds it closed, the node's steps stand still
    stub: Any  # generated, untyped


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    gate, bell, folder = threading.Event(), Bell(), tmp_path_factory.mktemp("door")
    gate.set()
    async with fake_node(folder / "node", gate) as node:
        provider = NodeProvider(ProviderId("node"), node.target, bell)
        async with open_door(folder, [provider, Echo()]) as door, client(door.target) as stub:
            await bell.until_healthy(provider)
            yield Box(door, node, gate, stub)


@pytest_asyncio.fixture(loop_scope="module")
async def box(shared: Box) -> AsyncIterator[Box]:
    async with asyncio.timeout(2 * BOUND_S):
        yield shared
    shared.gate.set()


class client:  # noqa: N801  # reads as a function: `async with client(target) as stub`
    def __init__(self, target: str, **options: Any) -> None:  # Any: grpc's own
        self._channel = grpc.aio.insecure_channel(target, **options)

    async def __aenter__(self) -> Any:  # Any: generated, untyped
        return node_pb2_grpc.NodeStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()


def text(task_id: str, prompt: str = "hello big world", **more: Any) -> Task:  # Any: fields of many types
    return Task(id=TaskId(task_id), request=TextRequest(prompt=prompt), **more)


async def events_of(stub: Any, task: Task, **call: Any) -> list[TaskEvent]:
    return await read(stub.Execute(codec.task_message(task), **call))


async def read(call: Any) -> list[TaskEvent]:
    """Its events from here on."""
    reader, events = codec.EventReader(), []
    try:
        while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
            event = reader.read(message)
            if event is not None:
                events.append(event)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, "the router") from error
    return events


async def answer(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, "the router") from error


async def result_of(stub: Any, task: Task) -> Any:
    last = (await events_of(stub, task))[-1]
    assert isinstance(last, Finished)
    return last.result


def running(box: Box) -> int:
    return sum(model.waiting + model.running for model in box.node.service.status().models)


def texts_done(box: Box) -> int:
    return sum(m.succeeded for m in box.node.service.status().models if m.model.id == "fake-text")


async def until_idle(box: Box) -> None:
    async for _ in box.node.service.watch(0.02):
        if not running(box):
            return


# ---- execute ----


async def test_a_task_is_streamed_from_the_node_that_serves_it(box: Box) -> None:
    first, second, *between, last = await events_of(box.stub, text("stream"))
    assert isinstance(first, Queued)
    assert isinstance(second, Started)
    assert second.model == "fake-text"
    assert "".join(event.text for event in between if isinstance(event, TextDelta)) == "hello big world"
    assert isinstance(last, Finished)
    assert last.result == TextResult("hello big world", "stop")
    assert last.usage.output_tokens == 3


async def test_a_model_by_name_goes_to_whom_it_belongs(box: Box) -> None:
    events = await events_of(box.stub, text("named", model=ModelId("echo")))
    assert [event.node_id for event in events if isinstance(event, Started)] == ["echo"]


async def test_every_modality_passes_both_ways(box: Box) -> None:
    picture = await result_of(box.stub, Task(id=TaskId("p"), request=ImageRequest(prompt="red", width=32, height=16)))
    vectors = await result_of(box.stub, Task(id=TaskId("v"), request=EmbeddingRequest(texts=("a", "b"))))
    sound = Blob(b"\1" * 64_000, "audio/wav")
    heard = await result_of(box.stub, Task(id=TaskId("a"), request=AudioRequest(audio=sound)))
    assert isinstance(picture, ImageResult)
    assert picture.images[0].data.startswith(b"\x89PNG")
    assert isinstance(vectors, EmbeddingResult)
    assert len(vectors.vectors) == 2 * 4 * vectors.dimensions
    assert isinstance(heard, AudioResult)


async def test_bytes_larger_than_a_message_are_staged_at_the_router(box: Box) -> None:
    chunks = [pb.UploadChunk(blob_id="big", data=b"\1" * (1 << 20)) for _ in range(20)]  # a message holds 16 MiB
    reply = await answer(box.stub.Upload(iter(chunks)))
    assert reply.size_bytes == 20 << 20
    message = pb.Task(id="big", audio=pb.AudioRequest(audio=pb.Blob(blob_id="big", content_type="audio/wav")))
    *_, last = await read(box.stub.Execute(message))
    assert isinstance(last, Finished)
    with pytest.raises(NotFound, match="no blob 'big'"):  # it was the task's
        await read(box.stub.Execute(message))


async def test_a_tier_that_nothing_has_is_refused_with_the_reason(box: Box) -> None:
    with pytest.raises(FabricError, match="is of tier basic, premium was asked for"):
        await events_of(box.stub, text("premium", tier=Tier.PREMIUM))


async def test_an_unknown_model_names_the_known_ones(box: Box) -> None:
    with pytest.raises(ModelNotFound, match="'gone' is not here: name one of the text models: echo, fake-text"):
        await events_of(box.stub, text("unknown", model=ModelId("gone")))


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        (text(""), "id: is empty"),
        (text("t", priority=101), "priority: is 101"),
        (text("t", timeout_s=0.0), r"timeout_s: is 0\.0"),
        (text("t", prompt="x" * 1_000_001), "has 1000001 characters of text: at most 1000000"),
    ],
    ids=["no id", "priority", "timeout", "too long"],
)
async def test_what_is_wrong_with_a_task_is_said_at_the_door(box: Box, task: Task, wrong: str) -> None:
    with pytest.raises(InputInvalid, match=wrong):
        await events_of(box.stub, task)


async def test_a_second_call_for_a_running_id_joins_it(box: Box) -> None:
    box.gate.clear()
    before = texts_done(box)
    calls = [box.stub.Execute(codec.task_message(text("join"))) for _ in range(2)]
    for call in calls:
        await call.read()  # it is in
    box.gate.set()
    one, other = await asyncio.gather(*(read(call) for call in calls))
    assert one[-1] == other[-1]
    assert texts_done(box) == before + 1


async def test_one_id_cannot_stand_for_two_requests(box: Box) -> None:
    box.gate.clear()
    call = box.stub.Execute(codec.task_message(text("twice")))
    await call.read()
    with pytest.raises(IdempotencyKeyReused):
        await events_of(box.stub, text("twice", prompt="another"))
    call.cancel()
    await until_idle(box)


async def test_a_cancel_by_id_ends_the_task_on_the_node(box: Box) -> None:
    box.gate.clear()
    call = box.stub.Execute(codec.task_message(text("cancel", prompt="word " * 200)))
    await call.read()
    await answer(box.stub.Cancel(pb.CancelRequest(task_id="cancel")))
    with pytest.raises(FabricError, match="cancelled by request"):
        await read(call)
    await until_idle(box)  # the gate is still closed: it cannot have succeeded
    with pytest.raises(NotFound, match="no task 'cancel'"):
        await answer(box.stub.Cancel(pb.CancelRequest(task_id="cancel")))


async def test_a_caller_that_goes_away_cancels_its_task(box: Box) -> None:
    box.gate.clear()
    call = box.stub.Execute(codec.task_message(text("gone", prompt="word " * 200)))
    await call.read()
    call.cancel()
    await until_idle(box)


async def test_a_task_ends_with_its_timeout(box: Box) -> None:
    box.gate.clear()
    with pytest.raises(DeadlineExceeded, match="timeout"):
        await events_of(box.stub, text("late", timeout_s=0.2))
    await until_idle(box)


# ---- what else the contract has ----


async def test_an_estimate_names_the_model_that_would_serve(box: Box) -> None:
    reply = await answer(box.stub.Estimate(codec.task_message(text("estimate"))))
    assert (reply.model, reply.usage.input_tokens, reply.fits_memory) == ("fake-text", 3, True)


async def test_all_models_are_listed_with_who_runs_them(box: Box) -> None:
    reply = await answer(box.stub.ListModels(pb.ListModelsRequest()))
    models = [codec.model_from(message) for message in reply.models]
    engines = {(model.id, model.engine) for model in models}
    assert engines == {(f"fake-{kind}", "fake") for kind in ("text", "embedding", "image", "audio")} | {
        ("echo", "echo")
    }
    assert not any(model.is_default for model in models if model.id == "echo")
    assert len([model for model in models if model.id == "echo"]) == 4  # one for each modality


async def test_models_are_unloaded_and_loaded_on_the_node(box: Box) -> None:
    gone = codec.model_from(await answer(box.stub.UnloadModel(pb.UnloadModelRequest(model="fake-image"))))
    back = codec.model_from(await answer(box.stub.LoadModel(pb.LoadModelRequest(model="fake-image"))))
    assert (gone.state, back.state) == (ModelState.UNLOADED, ModelState.READY)
    with pytest.raises(ModelNotFound, match="no node has model 'echo'"):
        await answer(box.stub.LoadModel(pb.LoadModelRequest(model="echo")))


async def test_the_status_is_that_of_its_nodes(box: Box) -> None:
    told = codec.status_from(await answer(box.stub.GetStatus(pb.StatusRequest())))
    node = box.node.service.status()
    assert (told.node_id, told.ready, told.reason, told.version) == ("router", True, "", "test")
    assert told.device.total_bytes == node.device.total_bytes
    assert {model.model.id for model in told.models} == {model.model.id for model in node.models}


async def test_a_watched_status_comes_again(box: Box) -> None:
    call = box.stub.WatchStatus(pb.StatusRequest(interval_s=0.05))
    first, second = await call.read(), await call.read()
    call.cancel()
    assert second.uptime_s > first.uptime_s
    with pytest.raises(InputInvalid, match="interval_s"):
        await answer(box.stub.WatchStatus(pb.StatusRequest(interval_s=0.0)).read())


async def test_health_and_reflection_answer_as_a_node_s_do(box: Box) -> None:
    async with grpc.aio.insecure_channel(box.door.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "fabric.node.v1.Node", "fake-text"):
            watched = health.Watch(health_pb2.HealthCheckRequest(service=service))
            while (await watched.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass
            watched.cancel()
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        told = [reply async for reply in reflection.ServerReflectionInfo(iter([asked]))]
        names = {service.name for service in told[0].list_services_response.service}
        assert "fabric.node.v1.Node" in names


# ---- places that fail, and the end ----


async def test_a_place_that_refuses_is_followed_by_the_next_and_queued_is_told_once(tmp_path: Path) -> None:
    full = Scripted([Queued(0), Overloaded("full")], provider_id="full")
    other = Scripted([Queued(1), STARTED, said("done")], provider_id="other")
    async with open_door(tmp_path, [full, other]) as door, client(door.target) as stub:
        events = await events_of(stub, text("next"))
    assert [type(event) for event in events] == [Queued, Started, Finished]


async def test_a_defect_of_a_place_is_an_internal_error_without_its_words(tmp_path: Path) -> None:
    broken = Scripted([Queued(0), RuntimeError("secret")])
    async with open_door(tmp_path, [broken]) as door, client(door.target) as stub:
        with pytest.raises(Internal, match="its log has the stack trace") as caught:
            await events_of(stub, text("broken"))
    assert "secret" not in caught.value.message


async def test_a_drain_ends_what_runs_and_refuses_the_next(tmp_path: Path) -> None:
    forever = Scripted([Queued(0), STARTED, asyncio.Event(), said("never")])
    async with open_door(tmp_path, [forever]) as door, client(door.target) as stub:
        call = stub.Execute(codec.task_message(text("drained")))
        await call.read()
        reply = await answer(stub.Drain(pb.DrainRequest(timeout_s=0.05)))
        assert reply.cancelled == 1
        with pytest.raises(FabricError, match="this router shut down"):
            await read(call)
        with pytest.raises(Draining, match="shutting down"):
            await events_of(stub, text("next"))
        status = codec.status_from(await answer(stub.GetStatus(pb.StatusRequest())))
        assert (status.ready, status.draining, status.reason) == (False, True, "it is shutting down")
        assert forever.closed == ["drained"]


async def test_as_many_tasks_as_may_run_are_accepted(tmp_path: Path) -> None:
    forever = Scripted([Queued(0), STARTED, asyncio.Event(), said("never")])
    async with open_door(tmp_path, [forever], waiting_limit=1) as door, client(door.target) as stub:
        call = stub.Execute(codec.task_message(text("one")))
        await call.read()
        with pytest.raises(Overloaded, match="the limit is 1"):
            await events_of(stub, text("two"))
        call.cancel()


async def test_a_local_only_task_never_reaches_a_remote_place(tmp_path: Path) -> None:
    remote = Scripted(provider_id="remote", tier=Tier.PREMIUM)
    async with open_door(tmp_path, [remote]) as door, client(door.target) as stub:
        with pytest.raises(FabricError, match="must not leave the box"):
            await events_of(stub, text("private", privacy="local_only"))
        await events_of(stub, text("any"))
    assert remote.order == ["any"]


async def test_a_premium_task_is_streamed_from_its_vendor_and_booked_to_the_microdollar(tmp_path: Path) -> None:
    catalog = only("openai", ["gpt-4o-mini"])
    vendor = OpenAIStandIn(key=VENDOR_KEY)
    async with serving(vendor.app()) as url, asyncio.timeout(2 * BOUND_S):
        provider = openai_provider(f"{url}/v1", catalog, key_of)
        async with open_door(tmp_path, [provider, Echo()]) as door, client(door.target) as stub:
            events = await events_of(stub, text("paid", tier=Tier.PREMIUM))
            while not (booked := await door.store.look(_records)):  # noqa: ASYNC110  # it is written behind the answer
                await asyncio.sleep(0.01)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "hello big world"
    (model,) = catalog.of(ProviderId("openai"))
    (record,) = booked
    assert model.price is not None
    assert (record.provider_id, record.model) == ("openai", "gpt-4o-mini")
    assert record.cost_micro == cost_micro(Usage(input_tokens=3, output_tokens=3), model.price) > 0


def _records(connection: Any) -> Any:  # Any: the store's own
    return usage.listed(connection, DEFAULT_ORGANIZATION, before=None, limit=9)


async def test_a_taken_port_is_one_clear_line(box: Box, tmp_path: Path) -> None:
    port = int(box.door.target.rpartition(":")[2])
    with pytest.raises(Conflict, match=rf"127\.0\.0\.1:{port} is taken .* --grpc-port or FABRIC_GRPC_PORT"):
        async with open_door(tmp_path, [Echo()], grpc_port=port):
            pytest.fail("it opened")


# ---- keys ----

ACME, KEY = OrganizationId("acme"), {"metadata": (("authorization", "Bearer acme"),)}


def check_key(authorization: str) -> Principal:
    match authorization:
        case "Bearer acme":
            return Principal(name="acme", organization_id=ACME, scopes=frozenset({Scope.PROVIDERS_EXECUTE}))
        case "Bearer root":
            return Principal(name="root")
        case _:
            raise Unauthorized("the key is not known here")


async def test_without_a_good_key_nothing_but_health_answers(tmp_path: Path) -> None:
    async with open_door(tmp_path, [Echo()], check_key) as door, client(door.target) as stub:
        for call in (None, (("authorization", "Bearer wrong"),)):
            with pytest.raises(Unauthorized):
                await events_of(stub, text("t", model=ModelId("echo")), metadata=call)
            with pytest.raises(Unauthorized):
                await read(stub.ExecuteMany(metadata=call))
            with pytest.raises(Unauthorized):
                await answer(stub.GetStatus(pb.StatusRequest(), metadata=call))
            with pytest.raises(Unauthorized):
                await answer(stub.Upload(iter([pb.UploadChunk(blob_id="b", data=b"x")]), metadata=call))
        async with grpc.aio.insecure_channel(door.target) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())


async def test_a_key_over_its_rate_is_told_when_to_come_back_and_http_takes_from_the_same_bucket(
    tmp_path: Path,
) -> None:
    now, rate = [0.0], 2.0
    limits = RateLimits(lambda: now[0])
    checked = held_to_rates(lambda _: Principal(name="slow", key_id="key_1", rate_per_s=rate), limits)
    async with open_door(tmp_path, [Echo()], checked) as door, client(door.target) as stub:
        limits.take("key_1", Rate(rate))  # a request over HTTP
        await answer(stub.GetStatus(pb.StatusRequest()))
        for call in (
            lambda: answer(stub.GetStatus(pb.StatusRequest())),
            lambda: events_of(stub, text("t", model=ModelId("echo"))),
            lambda: answer(stub.Upload(iter([pb.UploadChunk(blob_id="b", data=b"x")]))),
        ):
            with pytest.raises(RateLimited, match="may send 2 requests a second") as refused:
                await call()
            assert refused.value.retry_after_s == 0.5
        now[0] += refused.value.retry_after_s
        assert await events_of(stub, text("t", model=ModelId("echo")))
        with pytest.raises(grpc.aio.AioRpcError) as raw:
            await stub.GetStatus(pb.StatusRequest())
        assert raw.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_key_acts_for_its_organization_and_no_other(tmp_path: Path) -> None:
    seen: list[Task] = []

    class Noting(Scripted):
        async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
            seen.append(task)
            async for event in super().run(task):
                yield event

    async with open_door(tmp_path, [Noting()], check_key) as door, client(door.target) as stub:
        await events_of(stub, text("own"), **KEY)
        with pytest.raises(Forbidden, match="belongs to organization acme, the request names other"):
            await events_of(stub, text("their", organization_id=OrganizationId("other")), **KEY)
        await events_of(stub, text("root"), metadata=(("authorization", "Bearer root"),))
    assert [task.organization_id for task in seen] == [ACME, DEFAULT_ORGANIZATION]


async def test_a_key_ends_its_own_organization_s_tasks_only(tmp_path: Path) -> None:
    forever = Scripted([Queued(0), STARTED, asyncio.Event(), said("never")])
    async with open_door(tmp_path, [forever], check_key) as door, client(door.target) as stub:
        root = {"metadata": (("authorization", "Bearer root"),)}
        call = stub.Execute(codec.task_message(text("theirs")), **root)
        await call.read()
        with pytest.raises(NotFound, match="no task 'theirs'"):
            await answer(stub.Cancel(pb.CancelRequest(task_id="theirs"), **KEY))
        await answer(stub.Cancel(pb.CancelRequest(task_id="theirs"), **root))
        with pytest.raises(FabricError, match="cancelled by request"):
            await read(call)


async def test_only_an_administrator_loads_and_drains(tmp_path: Path) -> None:
    async with open_door(tmp_path, [Echo()], check_key) as door, client(door.target) as stub:
        for call in (stub.Drain(pb.DrainRequest(), **KEY), stub.LoadModel(pb.LoadModelRequest(model="echo"), **KEY)):
            with pytest.raises(Forbidden, match="lacks the scope admin"):
                await answer(call)
        assert (await answer(stub.ListModels(pb.ListModelsRequest(), **KEY))).models
        assert await events_of(stub, replace(text("t"), model=ModelId("echo")), **KEY)
