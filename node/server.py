"""The gRPC server of a node, or of a router: where it listens, the contract it serves, beside it health and reflection.

Not about what the calls do (rpc.py) nor about when it starts and ends (daemon.py, router/grpc.py).
"""

from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from node.rpc import NodeServicer
from protos.errors import Conflict
from protos.fabric.node.v1 import node_pb2, node_pb2_grpc
from protos.types import ModelState, NodeStatus

_GRACE_S: Final = 1.0  # for answers on their way when the server stops
_SERVICE: Final = node_pb2.DESCRIPTOR.services_by_name["Node"].full_name
_NOT_SERVING: Final = frozenset(
    {ModelState.FAILED, ModelState.LOADING}
)  # an unloaded model is loaded by its first task


class Server:
    """Bound when built, so that a taken port is told at once; `target` is where."""

    def __init__(
        self,
        servicer: NodeServicer,
        listen: str,
        message_bytes: int,
        *,
        elsewhere: str = "with --listen (FABRIC_NODE_LISTEN)",
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """elsewhere: how its user chooses another address. credentials: of TLS. Raises Conflict when it is taken."""
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else a second node on the port would start and get half of the calls
                ("grpc.max_receive_message_length", message_bytes),
                ("grpc.max_send_message_length", message_bytes),
            ],
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # set at import, the stubs lack it
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        node_pb2_grpc.add_NodeServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]  # generated
        names = [_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)
        self.target = _bind(self._server, listen, credentials, elsewhere)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(_GRACE_S)

    async def show_health(self, status: NodeStatus) -> None:
        """Tells those who watch grpc.health.v1 how the node and each of its models is."""
        for name, is_serving in _health_of(status).items():
            state = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set(name, state)


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None, elsewhere: str) -> str:
    """Where it listens now, with the port that the system chose for port 0."""
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise Conflict(
            f"{listen} is taken or cannot be bound: end who listens there, or choose another address {elsewhere}"
        ) from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


def _health_of(status: NodeStatus) -> dict[str, bool]:
    """By service name: "" and the contract's are the node, then one per model."""
    models = {str(model.model.id): model.model.state not in _NOT_SERVING for model in status.models}
    return {"": status.ready, _SERVICE: status.ready, **models}
