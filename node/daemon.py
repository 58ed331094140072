"""A node as one process: builds all parts, in order, and closes them in reverse. All wiring is here.

Not about the command line (cli.py).
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Final

import uvloop

from node.catalog import read_catalog
from node.engine import LoadEngine
from node.engines import loader as engine_loader
from node.lifeline import die_with_parent
from node.memory.devices import capacity_bytes, device_spec, measured_path, probe_of
from node.memory.measured import Memories
from node.occupancy import Residency
from node.recorder import Recorder
from node.registry import Registry
from node.rpc import NodeServicer
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Report, Stop
from node.server import Server
from node.service import NodeService
from node.settings import NodeSettings
from node.uploads import Uploads
from node.watchdog import Watchdog
from protos.errors import InputInvalid
from protos.types import Device, ModelId

log = logging.getLogger(__name__)

_HEALTH_S: Final = 1.0  # between looks at whether work moves; changes of a model's state are told at once
_CLOSE_S: Final = 10.0  # for engines to close; a hung device must not keep the process
EXIT_BROKEN: Final = 1  # the device thread died


class Daemon:
    """`async with Daemon(settings)`: a node that serves. Inside, `target` is where; `serve` blocks until it shall end."""

    def __init__(self, settings: NodeSettings, loader: Callable[[str], LoadEngine] = engine_loader) -> None:
        """Raises what is wrong with the settings or the catalog. loader: how an engine's name becomes its `load`."""
        self._settings = settings
        self._specs = read_catalog(settings.models_path)
        self._device = device_spec(settings.device, settings.threads)
        self._probe = probe_of(self._device)
        self._capacity_bytes = capacity_bytes(self._probe, settings.memory_bytes)
        self._loader = loader
        self._exit_status = 0
        self._signals = 0
        self._recorded: set[ModelId] = set()  # loaded models that the trace knows
        self.target = settings.listen

    async def __aenter__(self) -> "Daemon":
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._load_threads = ThreadPoolExecutor(1, "loader")  # one: a load's memory must be told from another's
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "pool")
        self._device_loop = DeviceLoop(
            self._report, self._settings.quantum_s, self._device.threads, release=self._probe.release
        )
        self._residency = Residency(
            load_wait_s=self._settings.load_wait_s,
            load_retry_s=self._settings.load_retry_s,
            min_residency_s=self._settings.min_residency_s,
        )
        self.registry = self._build_registry()
        self._recorder = self._build_recorder()
        self.service = self._build_service()
        self._uploads = Uploads(self._settings.upload_bytes, self._settings.upload_expiry_s)
        servicer = NodeServicer(lambda _: self.service, self._uploads, self._settings.drain_timeout_s)
        self._server = Server(servicer, self._settings.listen, self._settings.message_bytes)
        self.target = self._server.target
        await self._server.start()
        self._device_thread = threading.Thread(target=self._run_device, name="device", daemon=True)
        self._device_thread.start()
        self._background = [
            asyncio.create_task(self.registry.preload(), name="preload"),
            asyncio.create_task(self._follow_health(), name="health"),
        ]
        log.info("listening on %s, device %s, models %s", self.target, self._device.torch_name, self._model_names())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drains, then closes everything in the reverse order of its start."""
        cancelled = await self.service.drain(self._settings.drain_timeout_s)
        if cancelled:
            log.warning("%d tasks did not end within %.0f s", cancelled, self._settings.drain_timeout_s)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._server.stop()
        self._uploads.close()
        if self._recorder is not None:
            self._recorder.close()
        await self._close_engines()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._load_threads.shutdown(wait=False, cancel_futures=True)

    async def serve(self) -> int:
        """Until SIGTERM, SIGINT or the death of the device thread; the exit status. A second signal ends at once, and so
        does a device that hangs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._interrupt)
        self._background.append(asyncio.create_task(self._keep_watch(), name="watchdog"))
        await self._ending.wait()
        return self._exit_status

    # ---- the parts ----

    def _build_registry(self) -> Registry:
        settings = self._settings
        return Registry(
            self._specs,
            self._device,
            capacity_bytes=self._capacity_bytes,
            probe=self._probe,
            memories=Memories(measured_path(settings.data_dir, settings.node_id)),
            loader=self._loader,
            threads=self._load_threads,
            device_loop=self._device_loop,
            residency=self._residency,
            on_change=self._on_change,
        )

    def _build_recorder(self) -> Recorder | None:
        settings = self._settings
        if not settings.trace:
            return None
        try:
            recorder = Recorder(
                settings.trace_path,
                settings.trace_bytes,
                capacity_bytes=self._capacity_bytes,
                threads=self._device.threads,
                quantum_s=settings.quantum_s,
                residency=self._residency,
            )
        except OSError as error:
            raise InputInvalid.at(
                "trace", f"is {settings.trace!r}, which cannot be written ({error.strerror}): give another file"
            ) from error
        for entry in self.registry.entries:
            recorder.model(entry)
        return recorder

    def _build_service(self) -> NodeService:
        return NodeService(
            self._settings.id,
            registry=self.registry,
            device_loop=self._device_loop,
            pool=self._pool,
            describe=self._describe,
            recorder=self._recorder,
            stall_s=self._settings.stall_s,
            version=_version(),
        )

    def _describe(self) -> Device:
        memory = self.registry.memory
        return Device(
            kind="cuda" if self._device.kind == "cuda" else "cpu",
            name=self._probe.name,
            total_bytes=memory.capacity_bytes,
            used_bytes=sum(entry.held_bytes for entry in self.registry.entries),
            reserved_bytes=memory.reserved_bytes,
            foreign_bytes=memory.foreign_bytes,
        )

    def _model_names(self) -> str:
        return ", ".join(spec.id for spec in self._specs)

    def _on_change(self) -> None:
        self.service.ring()  # built after the registry
        if self._recorder is not None:
            self._record_loaded(self._recorder)

    def _record_loaded(self, recorder: Recorder) -> None:
        """Each model once, when all of it is known."""
        for entry in self.registry.entries:
            if entry.engine is not None and entry.spec.id not in self._recorded:
                self._recorded.add(entry.spec.id)
                recorder.model(entry)

    # ---- the device thread ----

    def _run_device(self) -> None:
        try:
            self._device_loop.run()
        except Exception:  # the thread's top: without it the node is worth nothing, so it ends and is started again
            log.exception("the device thread died: this is a bug")
            self._loop.call_soon_threadsafe(self._end, EXIT_BROKEN)

    def _report(self, reports: Sequence[Report]) -> None:
        self._loop.call_soon_threadsafe(self.service.on_reports, reports)

    async def _close_engines(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.registry.close()
        except TimeoutError:
            log.warning("the engines did not close within %.0f s", _CLOSE_S)
        self._device_loop.send(Stop())
        await asyncio.to_thread(self._device_thread.join, _CLOSE_S)

    # ---- health and the end ----

    async def _follow_health(self) -> None:
        async for status in self.service.watch(_HEALTH_S):
            await self._server.show_health(status)

    async def _keep_watch(self) -> None:
        watchdog = Watchdog(self._settings.hang_s)
        try:
            async for _ in self.service.watch(_HEALTH_S):
                watchdog.look(self._device_loop.longest_call())
        finally:
            watchdog.close()

    def _interrupt(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(130)  # the user insists; nothing here needs saving
        log.info("draining: running tasks have %.0f s to end", self._settings.drain_timeout_s)
        self._end(0)

    def _end(self, status: int) -> None:
        self._exit_status = self._exit_status or status
        self._ending.set()


def run(settings: NodeSettings, *, exit_with_parent: bool) -> int:
    """The whole life of a node process; its exit status."""
    if exit_with_parent:
        die_with_parent()

    async def main() -> int:
        async with Daemon(settings) as daemon:
            return await daemon.serve()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _version() -> str:
    try:
        return version("fabric-node")
    except PackageNotFoundError:
        return "source"  # run from a checkout that is not installed
