"""Which models are loaded: on demand, ahead of time, and until nobody has used them for keep_alive.

Asyncio side; one owner of the models' states. Not about whose memory it is (occupancy.py) nor about stepping (scheduler/).
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager

from node.engine import DeviceSpec, Engine, LoadEngine, ModelSpec
from node.entries import Entry, find, load_error, never_fits
from node.memory.devices import Probe
from node.memory.ledger import Decision, Ledger
from node.memory.measured import Measured, Memory, key_of
from node.occupancy import Occupancy, Residency
from node.scheduler.loop import DeviceLoop
from node.scheduler.messages import Attach, Detach, Recall
from protos.errors import Conflict, FabricError
from protos.types import Modality, ModelId, ModelState

log = logging.getLogger(__name__)


class Registry:
    """Loads, lends and unloads models. `on_change` is called on the event loop when a state has changed."""

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        device: DeviceSpec,
        *,
        capacity_bytes: int,
        probe: Probe,
        memories: Memory,
        loader: Callable[[str], LoadEngine],
        threads: Executor,
        device_loop: DeviceLoop,
        residency: Residency,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """threads: one at a time, so that a load's memory can be told from another's."""
        self._device, self._capacity_bytes, self._probe, self._memories = device, capacity_bytes, probe, memories
        self._loader, self._threads, self._loop, self._residency = loader, threads, device_loop, residency
        self._on_change, self._clock = on_change, clock
        began_s = clock()
        self._entries = {s.id: Entry(s, memories.recall(key_of(s, device)), since_s=began_s) for s in specs}
        for entry in self._entries.values():
            self._refuse_what_never_fits(entry)
        self._memory = Occupancy(
            list(self._entries.values()),
            capacity_bytes=capacity_bytes,
            probe=probe,
            residency=residency,
            evict=self._begin_unload,
            recall=lambda entry: device_loop.send(Recall(entry.spec.id)),
            clock=clock,
        )

    # ---- what there is ----

    @property
    def entries(self) -> Sequence[Entry]:
        return list(self._entries.values())

    @property
    def memory(self) -> Ledger:
        return self._memory.ledger

    def decision(self, entry: Entry) -> Decision:
        """What loading it takes, now or when those in its way are idle and have stayed long enough."""
        return self._memory.decision_in_the_end(entry)

    def find(self, model: ModelId | None, modality: Modality | None = None) -> Entry:
        """The entry of that name, or the default of the modality. Raises ModelNotFound."""
        return find(self.entries, model, modality)

    # ---- loading ----

    @asynccontextmanager
    async def lend(self, entry: Entry) -> AsyncIterator[Engine]:
        """The engine of a loaded model, which stays loaded until it is given back. Loads it first if need be."""
        await self._memory.turn_of(entry)
        entry.leases += 1
        entry.arrivals = entry.arrivals.plus(self._clock())
        if entry.expiry is not None:
            entry.expiry.cancel()
        try:
            yield await self.loaded(entry)
        finally:
            entry.leases -= 1
            if entry.leases == 0:
                self._expire_later(entry)
                self._memory.tell_freed()

    def is_claimed(self, entry: Entry) -> bool:
        """Another model waits for its memory: who has no seat of it yet gives it back and lends it again."""
        return self._memory.is_claimed(entry)

    async def loaded(self, entry: Entry) -> Engine:
        """The engine, loaded now if it is not. Who waits shares one load. Raises LoadFailed or DoesNotFit."""
        if entry.engine is not None and entry.unloading is None:
            return entry.engine
        retry_s = entry.since_s + self._residency.load_retry_s  # after a failure; on the clock
        if entry.last_error is not None and (wait_s := retry_s - self._clock()) > 0:
            raise type(entry.last_error)(entry.error, details=entry.last_error.details, retry_after_s=wait_s)
        if entry.load is None:
            entry.load = asyncio.create_task(self._load(entry), name=f"load {entry.spec.id}")
            entry.load.add_done_callback(lambda load: load.cancelled() or load.exception())  # waiters may be gone
        return await asyncio.shield(entry.load)

    async def preload(self) -> None:
        """Loads what the catalog wants ready, the small ones first. A model that fails is logged and FAILED."""
        wanted = [entry for entry in self._entries.values() if entry.spec.preload]
        for entry in sorted(wanted, key=lambda entry: entry.needed_bytes):
            try:
                await self.loaded(entry)
            except FabricError:
                continue  # logged, and its state says why

    async def _load(self, entry: Entry) -> Engine:
        spec = entry.spec
        try:
            if entry.unloading is not None:
                await entry.unloading
            self._become(entry, ModelState.LOADING)
            await self._memory.make_room(entry)
            log.info("loading model %s", spec.id)
            engine, held, measured = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._load_now, spec
            )
        except Exception as error:  # noqa: BLE001 - the top of a load: it becomes LoadFailed and one log line
            self._memory.release(entry)
            entry.last_error = load_error(error, spec.id)
            entry.error = entry.last_error.message
            self._become(entry, ModelState.FAILED)
            _log_failure(entry.error, error)
            self._memory.tell_freed()
            raise entry.last_error from (None if entry.last_error is error else error)
        else:
            entry.engine, entry.held_bytes, entry.measured, entry.error, entry.last_error = (
                engine,
                held,
                measured,
                "",
                None,
            )
            self._memory.reserve(entry, measured.peak_bytes)
            self._memories.remember(key_of(spec, self._device), measured)
            self._loop.send(Attach(engine, spec.weight))
            entry.was_ready = True
            self._become(entry, ModelState.READY)
            if entry.leases == 0:
                self._expire_later(entry)
            log.info(
                "model %s is ready after %.1f s, %.0f MiB", spec.id, measured.load_s, measured.peak_bytes / (1 << 20)
            )
            return engine
        finally:
            entry.load = None

    def _load_now(self, spec: ModelSpec) -> tuple[Engine, int, Measured]:
        """Loads and warms up, on the loader thread; the engine, what it holds, and what that took."""
        load = self._loader(spec.engine)
        began = self._clock()  # after the engine's import, which is paid once: `load_s` is what loading it again takes
        with _without_collection():
            engine = load(spec, self._device)
        try:
            _, peak_bytes = self._probe.peak_during(engine.warm_up)
            held = engine.held_bytes()
        except Exception:
            engine.close()
            raise
        return engine, held, Measured(held + peak_bytes, self._clock() - began)

    # ---- unloading ----

    async def unload(self, entry: Entry) -> None:
        """Returns when the memory is free. Raises Conflict while it has tasks or loads."""
        if entry.leases or entry.load is not None:
            what = f"has {entry.leases} tasks" if entry.leases else "is being loaded"
            raise Conflict(f"model {entry.spec.id!r} {what}: wait for their end or cancel them, then unload it")
        if entry.engine is not None:
            self._begin_unload(entry)
        if entry.unloading is not None:
            await asyncio.shield(entry.unloading)

    def _begin_unload(self, entry: Entry) -> None:
        if entry.unloading is not None:
            return
        if entry.expiry is not None:
            entry.expiry.cancel()
        entry.unloading = asyncio.create_task(self._unload(entry), name=f"unload {entry.spec.id}")

    async def _unload(self, entry: Entry) -> None:
        """The loop lets go of the engine; the loader's thread closes it, so that no step of others waits for that."""
        loop, engine = asyncio.get_running_loop(), entry.engine
        assert engine is not None, f"model {entry.spec.id!r} is unloaded and not loaded: this is a bug"
        is_let_go: asyncio.Future[None] = loop.create_future()
        self._loop.send(Detach(entry.spec.id, lambda: loop.call_soon_threadsafe(_set, is_let_go)))
        await is_let_go
        entry.engine = None
        try:
            await loop.run_in_executor(self._threads, self._close_now, engine)
        except Exception:  # the top of an unload: what it did not free is seen as held by others, or at the next load
            log.exception("model %s did not close", entry.spec.id)
        entry.unloading, entry.held_bytes = None, 0
        self._memory.release(entry)
        self._become(entry, ModelState.UNLOADED)
        log.info("model %s is unloaded", entry.spec.id)
        self._memory.tell_freed()

    def _close_now(self, engine: Engine) -> None:
        """On the loader thread."""
        gc.unfreeze()  # what a load put aside may be the engine's own, and no collection would find it
        engine.close()
        self._probe.release()

    def _expire_later(self, entry: Entry) -> None:
        if entry.spec.keep_alive_s is not None and entry.engine is not None:
            loop = asyncio.get_running_loop()
            entry.expiry = loop.call_later(entry.spec.keep_alive_s, self._expire, entry)

    def _expire(self, entry: Entry) -> None:
        if entry.leases == 0 and entry.engine is not None:
            log.info("model %s was not used for %.0f s", entry.spec.id, entry.spec.keep_alive_s or 0.0)
            self._begin_unload(entry)

    async def close(self) -> None:
        """Unloads all. A load under way cannot be interrupted: it is left to its thread, and nobody gets its engine."""
        for entry in self._entries.values():
            if entry.load is not None:
                entry.load.cancel()
            if entry.engine is not None:
                self._begin_unload(entry)
        await asyncio.gather(*(e.unloading for e in self._entries.values() if e.unloading is not None))

    # ---- the books ----

    def _become(self, entry: Entry, state: ModelState) -> None:
        entry.state, entry.since_s = state, self._clock()
        self._on_change()

    def _refuse_what_never_fits(self, entry: Entry) -> None:
        if entry.needed_bytes > self._capacity_bytes:
            raise never_fits(entry, self._capacity_bytes)


def _set(done: asyncio.Future[None]) -> None:
    """A node that closes waits for its engines only so long, and cancels `done` then."""
    if not done.done():
        done.set_result(None)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Importing torch and transformers makes two million objects to keep: collecting meanwhile cost 1 s of 8.5 s, and the
    first collection after it held the interpreter for 0.3 s, in the middle of the first requests. So they are put aside."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _log_failure(text: str, error: Exception) -> None:
    """One line; with the stack where the cause is not ours by name."""
    log.error(text, exc_info=None if isinstance(error, FabricError) else error)
