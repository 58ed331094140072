"""The wiring of a router: Store -> Feed -> ProviderRegistry -> Runner, closed in reverse; and the HTTP server around it.

Everything with a lifetime is made here and handed on. Not about routes (api/) nor the command line (cli.py).
"""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

import uvicorn
import uvloop
from fastapi import FastAPI

from node.lifeline import die_with_parent
from protos.types import NodeId
from providers.aliases import read_aliases
from providers.catalog import load_catalog
from providers.keys import settings_keys
from providers.registry import ProviderRegistry, configured
from router.accounts import Accounts
from router.api import assets as asset_routes
from router.api import (
    audit,
    budget,
    direct,
    documentation,
    envelope,
    estimate,
    events,
    explain,
    fairstack,
    jobs,
    keys,
    nodes,
    providers,
    route,
    secrets,
    system,
    usage,
    webhooks,
)
from router.api.access import Access
from router.api.context import Parts
from router.api.gate import Failing, Gate
from router.api.metrics import Metrics
from router.api.openai import ROUTES as OPENAI
from router.api.openai import chat, completions, embeddings
from router.api.openai.dialect import failure as openai_failure
from router.api.quickly import Endpoint, Quickly
from router.assets.attachments import Attachments, FileLimits
from router.assets.files import Files
from router.assets.library import AssetLimits, Assets
from router.assets.links import Links, key_of
from router.connections import Connection
from router.events import Feed
from router.grpc import door, held_to_rates
from router.jobs import JobEvent
from router.keyring import Keyring
from router.limits import RateLimits
from router.outbound import Outbound
from router.retries import RetryPolicy
from router.runner import Runner, RunnerSettings
from router.secrets import Secrets
from router.service import RouterService
from router.settings import RouterSettings, bind, bind_grpc
from router.store.sql import SqlStore
from router.targets import Allowed
from router.vault import vault_of
from router.webhooks.generations import generation_event
from router.webhooks.hooks import HookSettings, Webhooks
from router.webhooks.messages import Shapes

log = logging.getLogger(__name__)

_NODE_ID: Final = NodeId("router")  # how its gRPC door calls itself
_OBJECTS_BETWEEN_LOOKS: Final = 20_000  # of the garbage collector at the youngest
_KEEP_ALIVE_S: Final = 75  # of an idle connection: longer than clients keep theirs, else a request meets the closing
_FINISH_S: Final = 5  # for direct calls that still run when the router ends; jobs are durable and need none

_DEVELOPMENT: Final = (
    "development mode: there are no keys, so whoever reaches this loopback address may do all; "
    "set FABRIC_API_KEYS, or make a key with `fabric-node keys create`, to ask for them"
)

_ABOUT: Final = """Durable jobs on local models: `POST /v1/jobs`, then follow `GET /v1/jobs/{id}/events`.

Every answer is `{data, meta}`, every error `{error: {code, message, details?}, meta, data: null}`.
"""


_OPENAI_PATHS: Final = (
    "/v1/models",
    "/v1/chat/",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/images/",
    "/v1/audio/",
)

ROUTERS: Final = (
    jobs.routes,  # those called most come first: each route before one is a pattern that is tried
    *OPENAI,
    explain.routes,
    events.routes,
    providers.routes,
    estimate.routes,
    route.routes,
    direct.routes,
    nodes.routes,
    keys.routes,
    audit.routes,
    secrets.routes,
    usage.routes,
    budget.routes,
    webhooks.routes,
    system.routes,
    asset_routes.routes,
    fairstack.routes,
)

# Those called most, and whose callers wait for every millisecond.
QUICK: Final[Mapping[str, Endpoint]] = {
    "/v1/jobs": jobs.create_job,
    "/v1/providers/execute": direct.execute,
    "/v1/providers/execute/stream": direct.execute_stream,
    "/v1/chat/completions": chat.complete_chat,
    "/v1/completions": completions.complete,
    "/v1/embeddings": embeddings.embed,
}

# Where errors that no route has seen, such as a missing key, have another shape than the envelope.
_DIALECTS: Final[Mapping[str, Failing]] = {
    "/fairstack/": fairstack.failure,
    **dict.fromkeys(_OPENAI_PATHS, lambda error, _request_id: openai_failure(error)),
}


def build_app(settings: RouterSettings) -> FastAPI:
    """The router's HTTP application. Its lifespan makes and closes the parts."""
    metrics, keyring, limits = Metrics(), Keyring(settings, time.time), RateLimits(time.monotonic)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with running(settings, metrics, keyring) as parts:
            app.state.parts, app.state.limits = parts, limits
            yield

    app = FastAPI(
        title="Fabric Node",
        description=_ABOUT,
        version=system.installed_version(),
        lifespan=lifespan,
        docs_url=None,  # the framework's own page loads from the internet
        redoc_url=None,
        redirect_slashes=False,  # an unknown path is an error in the envelope
        responses=envelope.ERRORS,
    )
    Access().check(ROUTERS)
    for routes in ROUTERS:
        app.include_router(routes)
    documentation.install(app)
    envelope.install(app)
    app.add_middleware(Quickly, calls=QUICK)
    app.add_middleware(Gate, settings=settings, metrics=metrics, keyring=keyring, limits=limits, dialects=_DIALECTS)
    return app


@asynccontextmanager
async def running(settings: RouterSettings, metrics: Metrics, keyring: Keyring) -> AsyncGenerator[Parts, None]:
    """The parts of one router, started. Raises FabricError when one cannot start."""

    def on_commit(stored: Sequence[JobEvent]) -> None:
        feed.ring(stored)
        metrics.count(stored)
        hooks.on_commit(stored)

    def wake() -> None:
        runner.wake()

    vault = vault_of(settings.data_dir, settings.secret_key)
    store = SqlStore(settings.database_url, on_commit)
    accounts, catalog = Accounts(store), load_catalog(settings.providers.prices)
    vendor_keys = Secrets(store, vault, settings_keys(settings.providers))
    outbound = Outbound(Allowed.of(settings.allow_private_targets))
    hooks = Webhooks(
        store, outbound, vault, shapes=_SHAPES, settings=_hook_settings(settings), on_attempt=metrics.count_attempt
    )
    feed = Feed(store, settings.heartbeat_s)
    aliases = read_aliases(settings.models, settings.providers, catalog) if settings.models else ()
    registry = ProviderRegistry(configured(settings.providers, wake, vendor_keys.key_of), aliases, vendor_keys.lacking)
    links = Links(key_of(settings.data_dir), settings.public_base, time.time)
    files = Files(settings.assets_place, settings.data_dir / "arriving")
    assets = Assets(store, files, _asset_limits(settings), time.time)
    attachments = Attachments(assets, links, outbound, _file_limits(settings))
    service = RouterService(_NODE_ID, settings, registry, accounts, system.installed_version())
    runner = Runner(store, feed, registry, _runner_settings(settings), time.time, attachments=attachments)
    async with AsyncExitStack() as stack:
        await store.open()
        stack.push_async_callback(store.close)
        await keyring.open(store)
        stack.push_async_callback(keyring.close)
        stack.push_async_callback(outbound.close)
        await assets.open()
        stack.push_async_callback(assets.close)
        stack.push_async_callback(accounts.close)
        await vendor_keys.open()
        await hooks.open()
        stack.push_async_callback(hooks.close)
        await registry.start()
        stack.push_async_callback(registry.close)
        runner.start()
        stack.push_async_callback(runner.close)
        yield Parts(
            settings=settings,
            store=store,
            feed=feed,
            providers=registry,
            runner=runner,
            service=service,
            metrics=metrics,
            keyring=keyring,
            vault=vault,
            secrets=vendor_keys,
            accounts=accounts,
            catalog=catalog,
            outbound=outbound,
            webhooks=hooks,
            assets=assets,
            links=links,
            attachments=attachments,
            closing=asyncio.Event(),
            started_at=time.monotonic(),
        )


# How an event is shown to a webhook, by the API that the webhook came by.
_SHAPES: Final = Shapes(events.event_data, generation_event)


def _hook_settings(settings: RouterSettings) -> HookSettings:
    return HookSettings(
        timeout_s=settings.webhook_timeout_s,
        retention_s=settings.webhook_retention_s,
        per_organization=settings.webhooks_per_organization,
    )


def _runner_settings(settings: RouterSettings) -> RunnerSettings:
    return RunnerSettings(lease_s=settings.lease_s, retries=RetryPolicy(max_attempts=settings.max_attempts))


def _file_limits(settings: RouterSettings) -> FileLimits:
    return FileLimits(settings.fetch_bytes, settings.fetch_timeout_s, settings.file_memory_bytes)


def _asset_limits(settings: RouterSettings) -> AssetLimits:
    return AssetLimits(
        file_bytes=settings.asset_bytes,
        quota_bytes=settings.asset_quota_bytes,
        retention_s=settings.asset_retention_s,
        upload_retention_s=settings.upload_retention_s,
    )


class Server(uvicorn.Server):
    """uvicorn's server, ended by `stop` alone: its own signal handling would end the process before the parts close."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_FINISH_S,
            )
        )
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """The first time streams end and calls finish; the second time everything is cut."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._app.state.parts.closing.set()


async def serve(settings: RouterSettings, listener: socket.socket) -> None:
    """Answers on `listener` until SIGINT or SIGTERM; the second one cuts what still runs."""
    app = build_app(settings)
    # Not uvicorn's lifespan: it would log a part that cannot start and exit, where the caller tells it in one line.
    async with app.router.lifespan_context(app):
        server = Server(app)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        log.info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
        if app.state.parts.keyring.is_development:
            log.info(_DEVELOPMENT)
        _spare_the_collector()
        async with _grpc_door(settings, app.state.parts, app.state.limits):
            await server.serve([listener])


def _spare_the_collector() -> None:
    """What is there at the start stays to the end, and what a job makes hardly ever forms a cycle: looking through all of
    it after every 700 objects took 7 % of a router's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)


@asynccontextmanager
async def _grpc_door(settings: RouterSettings, parts: Parts, limits: RateLimits) -> AsyncGenerator[None, None]:
    async with door(settings, parts.service, held_to_rates(parts.keyring.check, limits)) as target:
        log.info("listening on %s for gRPC", target)
        yield


def serve_forever(settings: RouterSettings, *, exit_with_parent: bool = False) -> None:
    """The process of a router. Raises FabricError when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s router: %(message)s")
    for library in ("httpx", "httpx2"):  # a line for each call of a vendor, which `usage/records` tells better
        logging.getLogger(library).setLevel(logging.WARNING)
    if exit_with_parent:
        die_with_parent()
    bind_grpc(settings).close()
    with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, listener))
