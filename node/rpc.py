"""The gRPC face of a node, or of a router: messages in, service calls, messages out, errors as statuses.

Not about what the calls do (service.py, router/grpc.py) nor about where the server listens (server.py).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc_status import rpc_status

from node.contract import Service, named
from node.many import Many
from node.uploads import Uploads
from protos import codec
from protos.errors import InputInvalid
from protos.fabric.node.v1 import node_pb2 as pb
from protos.fabric.node.v1 import node_pb2_grpc
from protos.grpc_status import to_status
from protos.types import ModelId, TaskId

DEFAULT_INTERVAL_S = 1.0  # of WatchStatus, as the contract says
SHORTEST_INTERVAL_S = 0.05

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]  # Any: the messages of the method at hand


class NodeServicer(node_pb2_grpc.NodeServicer):
    """One method per call of the contract; each ends in a reply or in the status of a FabricError."""

    def __init__(self, service_of: Callable[[Context], Service], uploads: Uploads, drain_timeout_s: float) -> None:
        """service_of: what serves a call; it may look at who calls and raise Unauthorized or Forbidden."""
        self._service_of, self._uploads, self._drain_timeout_s = service_of, uploads, drain_timeout_s

    async def Execute(self, request: pb.Task, context: Context) -> AsyncIterator[pb.TaskEvent]:  # noqa: N802
        try:
            async with aclosing(self._executed(request, context)) as events:
                async for event in events:
                    yield event
        except Exception as error:  # noqa: BLE001 - the top of an RPC: it becomes a status
            await _abort(context, error)

    async def ExecuteMany(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.Calls], context: Context
    ) -> AsyncIterator[pb.Told]:
        try:
            self._service_of(context)  # whoever may not call is not kept waiting for a first task
            async with aclosing(Many(lambda task: self._executed(task, context)).serve(request_iterator)) as all_told:
                async for told in all_told:
                    yield told
        except Exception as error:  # noqa: BLE001 - the top of an RPC: it becomes a status
            await _abort(context, error)

    async def _executed(self, request: pb.Task, context: Context) -> AsyncGenerator[pb.TaskEvent, None]:
        """The events of one task. Raises what ends it."""
        used: list[str] = []

        def find_blob(blob_id: str) -> bytes:
            used.append(blob_id)
            return self._uploads.read(blob_id)

        try:
            service = self._service_of(context)
            task = codec.task_from(request, find_blob)
            async with aclosing(service.execute(task)) as events:
                async for event in events:
                    for message in codec.event_messages(task.id, event):
                        yield message
        finally:
            for blob_id in used:
                self._uploads.drop(blob_id)

    async def Upload(self, request_iterator: AsyncIterator[pb.UploadChunk], context: Context) -> pb.UploadReply:  # noqa: N802
        blob_id = ""
        try:
            self._service_of(context)
            async for chunk in request_iterator:
                if not blob_id:
                    self._uploads.begin(chunk.blob_id)
                    blob_id = chunk.blob_id
                self._uploads.append(blob_id, chunk.data)
            if not blob_id:
                raise InputInvalid.at("blob_id", "is missing: the stream had no chunk")
            return pb.UploadReply(blob_id=blob_id, size_bytes=self._uploads.complete(blob_id))
        except Exception as error:  # noqa: BLE001 - the top of an RPC: it becomes a status
            self._uploads.drop(blob_id)
            await _abort(context, error)

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelReply:  # noqa: N802
        async with self._serving(context) as service:
            await service.cancel(TaskId(request.task_id))
            return pb.CancelReply()

    async def Estimate(self, request: pb.Task, context: Context) -> pb.EstimateReply:  # noqa: N802
        async with self._serving(context) as service:
            task = codec.task_from(request, self._uploads.read)
            return codec.estimate_message(await service.estimate(task))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsReply:  # noqa: N802, ARG002
        async with self._serving(context) as service:
            return pb.ListModelsReply(models=[codec.model_message(model) for model in service.models()])

    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> pb.Model:  # noqa: N802
        async with self._serving(context) as service:
            return codec.model_message(await service.load(ModelId(request.model)))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.Model:  # noqa: N802
        async with self._serving(context) as service:
            return codec.model_message(await service.unload(ModelId(request.model)))

    async def GetStatus(self, request: pb.StatusRequest, context: Context) -> pb.Status:  # noqa: N802, ARG002
        async with self._serving(context) as service:
            return codec.status_message(service.status())

    async def WatchStatus(self, request: pb.StatusRequest, context: Context) -> AsyncIterator[pb.Status]:  # noqa: N802
        interval_s = request.interval_s if request.HasField("interval_s") else DEFAULT_INTERVAL_S
        try:
            if not interval_s >= SHORTEST_INTERVAL_S:
                raise InputInvalid.at("interval_s", f"is {interval_s}: give at least {SHORTEST_INTERVAL_S}")
            async with aclosing(self._service_of(context).watch(interval_s)) as statuses:
                async for status in statuses:
                    yield codec.status_message(status)
        except Exception as error:  # noqa: BLE001 - the top of an RPC: it becomes a status
            await _abort(context, error)

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainReply:  # noqa: N802
        timeout_s = request.timeout_s if request.HasField("timeout_s") else self._drain_timeout_s
        async with self._serving(context) as service:
            return pb.DrainReply(cancelled=await service.drain(max(0.0, timeout_s)))

    @asynccontextmanager
    async def _serving(self, context: Context) -> AsyncGenerator[Service, None]:
        """What serves a call with one reply; what it raises ends the call."""
        try:
            yield self._service_of(context)
        except Exception as error:  # noqa: BLE001 - the top of an RPC: it becomes a status
            await _abort(context, error)


async def _abort(context: Context, error: Exception) -> NoReturn:
    """Ends the call with the error's status."""
    status = rpc_status.to_status(to_status(named(error)))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort raises: this is a bug")
