"""A node as a provider: the gRPC client of one node, or of what serves its contract (fabric.py).

Watches the node's status; a node that is silent is unavailable, and its running calls end. Not about routing among nodes.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import grpc

from protos.codec import CHUNK_BYTES, EventReader, estimate_from, model_from, status_from, task_message
from protos.errors import NodeUnavailable, NotFound
from protos.fabric.node.v1 import node_pb2 as pb
from protos.fabric.node.v1.node_pb2_grpc import NodeStub
from protos.grpc_status import from_rpc_error
from protos.locality import is_local
from protos.types import (
    AudioRequest,
    Blob,
    Estimate,
    ImageRequest,
    Model,
    ModelId,
    NodeStatus,
    ProviderId,
    Task,
    TaskEvent,
    TaskId,
    Tier,
)
from providers.base import Offer, Snapshot
from providers.many import NotServedError, Stream
from providers.node_status import health_of, offers_of, served
from providers.way import Way

SILENCE_S: Final = 3.0  # gRPC keepalive does not notice a stopped process
_STATUSES: Final = 6  # that fit into the silence: one that comes late is not yet a silence
_MESSAGE_BYTES: Final = 16 << 20  # as the node's own bound; blobs travel in chunks
_CALL_TIMEOUT_S: Final = 10.0  # of the calls that run nothing: cancel, estimate, unload
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0)  # before the next try to watch; the last one repeats

_CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),  # gRPC's own second to two minutes would hide that a node is back
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # a proxy set for the internet is none for a node
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What serves the contract at the other end, and how it is talked to."""

    kind: str = "node"  # of its snapshot
    called: str = "node"  # in messages
    credentials: grpc.ChannelCredentials | None = None  # of TLS; None: without
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of every call: its key
    is_router: bool = False  # a task it gets has been forwarded


NODE: Final = Peer()


class NodeProvider:
    """One node. `on_change` is called when its health or its models change."""

    def __init__(
        self,
        id: ProviderId,  # noqa: A002  # the protocol's name
        target: str,
        on_change: Callable[[], None] = lambda: None,
        *,
        peer: Peer = NODE,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id, self.target, self._peer = id, target, peer
        self._name = f"{peer.called} {target}"
        self._on_change, self._silence_s, self._clock = on_change, silence_s, clock
        self._way = Way()
        self._status: NodeStatus | None = None
        self._offers: Sequence[Offer] = ()
        self._is_remote = not is_local(target)
        self._seen_at = clock()
        self._lost = f"{self._name} has not answered yet"  # why the watch is down; "" while it is up
        self._stream: Stream | None = None  # that its calls share
        self._has_streams = not peer.is_router  # where each call has an organization and a key of its own
        self._calls: dict[Any, str] = {}  # Any: grpc.aio's call objects; those that run, and why one was cut

    # ---- life ----

    async def start(self) -> None:
        self._channel = _channel(self.target, self._peer.credentials)
        self._stub: Any = NodeStub(self._channel)  # type: ignore[no-untyped-call]  # generated, as is its type
        self._watching = asyncio.create_task(self._watch(), name=f"watch {self.target}")

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})
        stream = self._stream
        self._lose(f"the client of {self._name} was closed")
        if stream is not None:
            await stream.closed()
        await self._channel.close(None)

    async def _watch(self) -> None:
        tries = 0
        while True:
            try:
                async for status in self._statuses():
                    self._see(status)
                    tries = 0
                self._lose(f"{self._name} ended its status stream")
            except grpc.aio.AioRpcError as error:
                self._lose(from_rpc_error(error, self._name).message)
            except KeyError as error:
                self._lose(f"{self._name} sent a status with the unknown value {error}: upgrade this router")
            except TimeoutError:
                self._lose(f"{self._name} has been silent for {self._silence_s:g} s: is it stopped?")
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])
            tries += 1

    async def _statuses(self) -> AsyncIterator[NodeStatus]:
        call = self._stub.WatchStatus(
            pb.StatusRequest(interval_s=self._silence_s / _STATUSES), metadata=self._peer.metadata
        )
        try:
            while True:
                message = await self._heard(call)
                if message is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in grpc-stubs
                    return
                yield status_from(message)
        finally:
            call.cancel()

    async def _heard(self, call: Any) -> Any:  # Any: generated, untyped
        """Its next message. The silence is counted in looks: where this process was held up itself, nobody has listened,
        and what runs at the node is not lost for that."""
        reading = asyncio.ensure_future(call.read())
        try:
            for _ in range(_STATUSES):
                await asyncio.wait({reading}, timeout=self._silence_s / _STATUSES)
                if reading.done():
                    return reading.result()
            raise TimeoutError
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    def _see(self, status: NodeStatus) -> None:
        before = self.snapshot()
        self._status, self._seen_at, self._lost = status, self._clock(), ""
        self._offers = offers_of(status)  # once a status, not once a snapshot: each job takes several
        self._ring_if_changed(before)

    def _lose(self, reason: str) -> None:
        before = self.snapshot()
        self._lost = reason
        for call in self._calls:
            self._calls[call] = reason
            call.cancel()
        if self._stream is not None:
            self._stream.end(NodeUnavailable(f"{reason}; what ran there is lost"))
            self._stream = None
        self._ring_if_changed(before)

    def _ring_if_changed(self, before: Snapshot) -> None:
        now = self.snapshot()
        if (before.health.status, served(before)) != (now.health.status, served(now)):
            self._on_change()

    # ---- what is known ----

    def snapshot(self) -> Snapshot:
        return Snapshot(
            id=self.id,
            kind=self._peer.kind,
            tier=Tier.BASIC,
            offers=self._offers,
            health=health_of(self._status, self._lost, self._clock() - self._seen_at),
            node=self._status,
            is_remote=self._is_remote,
        )

    # ---- calls ----

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        self._require()
        reader, sent_s = EventReader(), self._clock()
        async with aclosing(self._pieces(await self._staged(task))) as pieces:
            async for piece in pieces:
                event = reader.read(piece)
                if event is not None:
                    yield self._way.told(event, self._clock() - sent_s)

    async def _pieces(self, message: pb.Task) -> AsyncGenerator[pb.TaskEvent, None]:
        """What the node says of the task: on the stream that all share, but for what would hold up the others on it."""
        if self._has_streams and message.ByteSize() <= CHUNK_BYTES:
            try:
                async with aclosing(self._shared().run(message)) as pieces:
                    async for piece in pieces:
                        yield piece
            except NotServedError:
                self._has_streams = False
            else:
                return
        call = self._stub.Execute(message, metadata=self._peer.metadata)
        with self._running(call):
            async for piece in call:
                yield piece

    def _shared(self) -> Stream:
        if self._stream is None or self._stream.has_ended:
            self._stream = Stream(self._stub, self._peer.metadata, self._name)
        return self._stream

    async def cancel(self, task_id: TaskId) -> None:
        with suppress(NotFound), self._errors():
            await self._answer(self._stub.Cancel, pb.CancelRequest(task_id=task_id))

    async def estimate(self, task: Task) -> Estimate:
        self._require()
        message = await self._staged(task)
        with self._errors():
            return self._way.estimated(estimate_from(await self._answer(self._stub.Estimate, message)))

    async def load(self, model: ModelId) -> Model:
        """Returns when the model is ready, however long that takes while the node shows signs of life."""
        self._require()
        call = self._stub.LoadModel(pb.LoadModelRequest(model=model), metadata=self._peer.metadata)
        with self._running(call):
            return model_from(await call)

    async def unload(self, model: ModelId) -> Model:
        self._require()
        with self._errors():
            return model_from(await self._answer(self._stub.UnloadModel, pb.UnloadModelRequest(model=model)))

    async def _answer(self, method: Any, request: Any) -> Any:  # Any: generated stubs are untyped
        """The reply of a call that runs nothing."""
        return await method(request, timeout=_CALL_TIMEOUT_S, metadata=self._peer.metadata)

    async def _staged(self, task: Task) -> pb.Task:
        """The message of a task; a blob too large for it is uploaded first."""
        task = replace(task, is_forwarded=task.is_forwarded or self._peer.is_router)
        request = task.request
        match request:
            case AudioRequest(audio=blob) if len(blob.data) > CHUNK_BYTES:
                message = task_message(replace(task, request=replace(request, audio=_empty(blob))))
                message.audio.audio.blob_id = await self._upload(blob)
            case ImageRequest(image=Blob() as blob) if len(blob.data) > CHUNK_BYTES:
                message = task_message(replace(task, request=replace(request, image=_empty(blob))))
                message.image.image.blob_id = await self._upload(blob)
            case _:
                message = task_message(task)
        return message

    async def _upload(self, blob: Blob) -> str:
        call = self._stub.Upload(_chunks(blob), metadata=self._peer.metadata)
        with self._running(call):
            return str((await call).blob_id)

    def _require(self) -> None:
        if self._lost:
            raise NodeUnavailable(self._lost)

    @contextmanager
    def _running(self, call: Any) -> Iterator[None]:  # Any: one of grpc.aio's call objects
        """A call that ends with NodeUnavailable when the node is lost, and is cancelled when its reader goes."""
        self._calls[call] = ""
        try:
            with self._errors():
                yield
        except asyncio.CancelledError as error:
            task, reason = asyncio.current_task(), self._calls[call]
            if not reason or (task is not None and task.cancelling()):
                raise  # the caller's own
            raise NodeUnavailable(f"{reason}; what ran there is lost") from error
        finally:
            del self._calls[call]
            call.cancel()  # nothing when it has ended; else the node cancels the task, as nobody listens any more

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._name) from error


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)


def _empty(blob: Blob) -> Blob:
    return Blob(b"", blob.content_type)


def _chunks(blob: Blob) -> Iterator[pb.UploadChunk]:
    blob_id = uuid4().hex
    for start in range(0, len(blob.data), CHUNK_BYTES):
        yield pb.UploadChunk(blob_id=blob_id, data=blob.data[start : start + CHUNK_BYTES])
