"""Is it alive, can it serve, what is it: /healthz, /readyz, /v1/health, /v1/system, /metrics.

Ready means that a job sent now would run: the store answers, and a node serves and makes progress.
"""

import asyncio
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from protos.types import DEFAULT_ORGANIZATION
from providers.base import Snapshot
from router.api.context import Parts, WithParts
from router.api.envelope import Success, success
from router.api.metrics import CONTENT_TYPE
from router.api.nodes import NodeShape

routes = APIRouter(tags=["system"])

_NAME: Final = "fabric-node"
_STORE_TIMEOUT_S: Final = 2.0  # a read that takes longer is as good as none


class Readiness(BaseModel):
    ready: bool
    reason: str = Field(description="what is missing; empty when ready")
    checks: dict[str, str] = Field(description="of the store and of each node: ok, or what is wrong")


class Alive(BaseModel):
    status: str = "ok"


class SystemStatus(BaseModel):
    status: str = Field(description="ok, or degraded: alive but not ready")
    ready: bool
    reason: str
    uptime_s: float
    jobs: dict[str, int] = Field(description="how many are pending and started")
    nodes: list[NodeShape]


class SystemInfo(BaseModel):
    name: str
    version: str
    python: str
    platform: str
    mode: str = Field(
        description="development: whoever reaches this loopback address may do all; or keys: they are asked for"
    )
    modalities: list[str] = Field(description="that some model here serves")
    limits: dict[str, int] = Field(description="bounds of the settings")


class Welcome(BaseModel):
    name: str
    version: str
    docs: str
    openapi: str


@routes.get("/", response_model=Success[Welcome])
async def welcome(request: Request) -> Response:
    """Where to read on."""
    return success(request, Welcome(name=_NAME, version=installed_version(), docs="/docs", openapi="/openapi.json"))


@routes.get("/healthz", response_model=Alive)
async def healthz() -> Response:
    """200 while the process answers at all."""
    return JSONResponse(Alive().model_dump())


@routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "not ready"}})
async def readyz(parts: WithParts) -> Response:
    readiness = await _readiness(parts)
    return JSONResponse(readiness.model_dump(), 200 if readiness.ready else 503)


@routes.get("/v1/health", response_model=Success[SystemStatus])
@routes.get("/v1/system/status", response_model=Success[SystemStatus])
async def system_status(request: Request, parts: WithParts) -> Response:
    """200 also while it is not ready: `status` says which."""
    readiness = await _readiness(parts)
    status = SystemStatus(
        status="ok" if readiness.ready else "degraded",
        ready=readiness.ready,
        reason=readiness.reason,
        uptime_s=time.monotonic() - parts.started_at,
        jobs={state.value: count for state, count in (await parts.store.count_unfinished()).items()},
        nodes=[NodeShape.of(snapshot) for snapshot in _nodes(parts)],
    )
    return success(request, status)


@routes.get("/v1/system/info", response_model=Success[SystemInfo])
async def system_info(request: Request, parts: WithParts) -> Response:
    settings = parts.settings
    info = SystemInfo(
        name=_NAME,
        version=installed_version(),
        python=platform.python_version(),
        platform=platform.platform(),
        mode="development" if parts.keyring.is_development else "keys",
        modalities=sorted({offer.modality for snapshot in parts.providers.snapshots() for offer in snapshot.offers}),
        limits={
            "body_bytes": settings.body_bytes,
            "input_chars": settings.input_chars,
            "metadata_bytes": settings.metadata_bytes,
            "waiting_jobs": settings.waiting_limit,
            "attempts": settings.max_attempts,
        },
    )
    return success(request, info)


@routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(parts: WithParts) -> Response:
    """Prometheus text."""
    text = parts.metrics.render(await parts.store.count_unfinished(), parts.providers.snapshots())
    return Response(text, headers={"content-type": CONTENT_TYPE})


def installed_version() -> str:
    try:
        return version("fabric-node")
    except PackageNotFoundError:
        return "source"  # run from a checkout that is not installed


async def _readiness(parts: Parts) -> Readiness:
    return readiness_of(await _store_state(parts), _nodes(parts))


def readiness_of(store: str, nodes: Sequence[Snapshot]) -> Readiness:
    """`store`: ok, or what is wrong with it. Pure."""
    checks = {"store": store}
    for node in nodes:
        checks[node.id] = "ok" if node.health.status != "unavailable" else node.health.reason
    wrong = [] if store == "ok" else [f"store: {store}"]
    if not nodes:
        wrong.append("no node is configured: start one and name it in FABRIC_NODES")
    elif all(node.health.status == "unavailable" for node in nodes):
        wrong.extend(f"{node.id}: {node.health.reason}" for node in nodes)
    return Readiness(ready=not wrong, reason="; ".join(wrong), checks=checks)


async def _store_state(parts: Parts) -> str:
    try:
        async with asyncio.timeout(_STORE_TIMEOUT_S):
            await parts.store.last_position(DEFAULT_ORGANIZATION)
    except TimeoutError:
        return f"did not answer within {_STORE_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001  # the question is whether it works; why not is the answer
        return f"does not work: {error}"
    return "ok"


def _nodes(parts: Parts) -> list[Snapshot]:
    return [snapshot for snapshot in parts.providers.snapshots() if snapshot.kind == "node"]
