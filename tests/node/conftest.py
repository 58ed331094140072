"""Real nodes for tests: a daemon in this process, with fake engines, on a free port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from node.daemon import Daemon
from node.engine import Engine, LoadEngine, ModelSpec
from node.engines import loader as engine_loader
from node.engines.fake import FakeEngine, Faults
from node.settings import NodeSettings
from protos import codec
from protos.errors import FabricError
from protos.fabric.node.v1 import node_pb2_grpc
from protos.grpc_status import from_rpc_error
from protos.types import Task, TaskEvent

FAKES = """
[[model]]
id = "talk"
engine = "fake"
modality = "text"
default = true
preload = true

[[model]]
id = "embed"
engine = "fake"
modality = "embedding"
default = true
"""


@dataclass(frozen=True)
class Client:
    """What a router does: calls over a real channel, events and errors as the vocabulary has them."""

    stub: node_pb2_grpc.NodeStub
    channel: grpc.aio.Channel
    daemon: Daemon

    async def events(self, task: Task) -> AsyncIterator[TaskEvent]:
        reader = codec.EventReader()
        call = self.stub.Execute(codec.task_message(task))
        try:
            async for message in call:
                if (event := reader.read(message)) is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "the node") from error
        finally:
            call.cancel()

    async def run(self, task: Task) -> list[TaskEvent]:
        return [event async for event in self.events(task)]

    async def error_of(self, task: Task) -> FabricError:
        """The error that the task ends with."""
        with pytest.raises(FabricError) as caught:
            await self.run(task)
        return caught.value


StartNode: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def start_node(tmp_path: Path) -> StartNode:
    """start_node(models=toml text, faults=..., load=a function of the spec, any setting): a running node's client.

    With are_real=True the engines are those that the models name.
    """

    @asynccontextmanager
    async def start(
        models: str = FAKES,
        *,
        faults: Faults | None = None,
        load: Callable[[ModelSpec], Engine] | None = None,
        are_real: bool = False,
        **settings: object,
    ) -> AsyncIterator[Client]:
        path = tmp_path / "models.toml"
        path.write_text(models)

        def loader(name: str) -> LoadEngine:
            assert name == "fake"
            make = load or (lambda spec: FakeEngine(spec, faults=faults))
            return lambda spec, _device: make(spec)

        chosen = NodeSettings(
            listen="127.0.0.1:0", device="cpu", models_path=path, data_dir=tmp_path, drain_timeout_s=5.0
        )
        async with AsyncExitStack() as stack:
            daemon = await stack.enter_async_context(
                Daemon(replace(chosen, **settings), engine_loader if are_real else loader)
            )  # type: ignore[arg-type]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(daemon.target))
            yield Client(node_pb2_grpc.NodeStub(channel), channel, daemon)  # type: ignore[no-untyped-call]

    return start
