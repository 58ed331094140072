"""/v1/nodes: each node's device, memory by model, models, queues and health, as it last told."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from protos.errors import NotFound
from protos.types import Modality, ModelState, ModelStatus
from providers.base import Snapshot
from router.api.context import WithParts
from router.api.envelope import Success, success

routes = APIRouter(prefix="/v1/nodes", tags=["nodes"])


class HealthShape(BaseModel):
    """healthy, degraded (serves some) or unavailable."""

    status: str
    reason: str
    seen_s: float = Field(description="age of what was last seen")

    @classmethod
    def of(cls, snapshot: Snapshot) -> "HealthShape":
        return cls(**asdict(snapshot.health))


class DeviceShape(BaseModel):
    kind: str
    name: str
    total_bytes: int = Field(description="that the node may use")
    used_bytes: int
    reserved_bytes: int
    foreign_bytes: int = Field(description="held by other processes")


class NodeModelShape(BaseModel):
    """A model on a node, with its queue. Rates are over the last 10 s, in tokens, rows or windows."""

    id: str
    modality: Modality
    state: ModelState
    is_default: bool
    memory_bytes: int
    error: str
    context_tokens: int
    engine: str
    waiting: int
    waiting_limit: int
    running: int
    last_batch: int
    max_batch: int
    steps_per_s: float
    units_per_s: float
    device_seconds: float
    last_step_age_s: float
    oldest_wait_s: float
    succeeded: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, status: ModelStatus) -> "NodeModelShape":
        told: dict[str, Any] = asdict(status)  # Any: each field has its own type
        return cls(**told.pop("model"), **told)


class NodeShape(BaseModel):
    """A node. What only the node can tell is null, or empty, until it was reached once."""

    id: str
    node_id: str | None
    ready: bool
    reason: str
    draining: bool
    health: HealthShape
    device: DeviceShape | None
    models: list[NodeModelShape]
    uptime_s: float | None
    version: str | None

    @classmethod
    def of(cls, snapshot: Snapshot) -> "NodeShape":
        status = snapshot.node
        return cls(
            id=snapshot.id,
            node_id=status.node_id if status else None,
            ready=snapshot.health.status != "unavailable",
            reason=snapshot.health.reason,
            draining=status.draining if status else False,
            health=HealthShape.of(snapshot),
            device=DeviceShape(**asdict(status.device)) if status else None,
            models=[NodeModelShape.of(model) for model in status.models] if status else [],
            uptime_s=status.uptime_s if status else None,
            version=status.version if status else None,
        )


@routes.get("", response_model=Success[list[NodeShape]])
async def list_nodes(request: Request, parts: WithParts) -> Response:
    return success(
        request, [NodeShape.of(snapshot) for snapshot in parts.providers.snapshots() if snapshot.kind == "node"]
    )


@routes.get("/{node_id}", response_model=Success[NodeShape])
async def get_node(request: Request, node_id: str, parts: WithParts) -> Response:
    """By the id that the router gave it, or its own."""
    for snapshot in parts.providers.snapshots():
        if snapshot.kind == "node" and node_id in (snapshot.id, snapshot.node and snapshot.node.node_id):
            return success(request, NodeShape.of(snapshot))
    raise NotFound(f"there is no node {node_id[:80]!r}: GET /v1/nodes lists them")
