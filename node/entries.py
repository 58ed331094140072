"""The models of the catalog as the node keeps them: the spec, what was measured, and the state.

Not about what changes the state (registry.py).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from node.engine import Engine, ModelSpec
from node.memory import ledger
from node.memory.ledger import Arrivals
from node.memory.measured import Measured
from protos.errors import DoesNotFit, FabricError, LoadFailed, ModelNotFound
from protos.types import Modality, Model, ModelId, ModelState

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


@dataclass(slots=True)
class Entry:
    """One model of the catalog and what became of it."""

    spec: ModelSpec
    measured: Measured | None
    state: ModelState = ModelState.UNLOADED
    engine: Engine | None = None
    held_bytes: int = 0
    error: str = ""
    leases: int = 0  # tasks that need it loaded
    since_s: float = 0.0  # it is in its state
    arrivals: Arrivals = field(default_factory=Arrivals)
    was_ready: bool = False  # at some time since the start
    load: "asyncio.Task[Engine] | None" = None
    expiry: asyncio.TimerHandle | None = None
    unloading: "asyncio.Future[None] | None" = None
    last_error: FabricError | None = field(default=None, repr=False)

    @property
    def needed_bytes(self) -> int:
        return self.measured.peak_bytes if self.measured else ledger.expected_bytes(self.spec.file_bytes)

    @property
    def seats(self) -> int:
        return self.engine.seats if self.engine is not None else self.spec.seats

    @property
    def model(self) -> Model:
        return Model(
            id=self.spec.id,
            modality=self.spec.modality,
            state=self.state,
            is_default=self.spec.is_default,
            memory_bytes=self.needed_bytes,
            error=self.error,
            context_tokens=self.engine.context_tokens if self.engine else self.spec.context_tokens or 0,
            engine=self.spec.engine,
        )


def find(entries: Sequence[Entry], model: ModelId | None, modality: Modality | None) -> Entry:
    """The entry of that name (and modality, if one is asked for), or the default of the modality. Raises ModelNotFound."""
    names = ", ".join(e.spec.id for e in entries if modality is None or e.spec.modality == modality)
    if model is None:
        return _default(entries, modality, names)
    for entry in entries:
        if entry.spec.id == model:
            return _checked(entry, modality, names)
    raise ModelNotFound(f"this node has no model {model!r}: it has {names or f'none for {modality}'}")


def _default(entries: Sequence[Entry], modality: Modality | None, names: str) -> Entry:
    for entry in entries:
        if entry.spec.is_default and entry.spec.modality == modality:
            return entry
    if names:
        raise ModelNotFound(f"this node has no default model for {modality}: name one of {names}")
    raise ModelNotFound(f"this node has no model for {modality}: send the task to another, or add one to models.toml")


def _checked(entry: Entry, modality: Modality | None, names: str) -> Entry:
    if modality is not None and entry.spec.modality != modality:
        wrong = f"model {entry.spec.id!r} is for {entry.spec.modality}, not {modality}"
        raise ModelNotFound(f"{wrong}: name one of {names}" if names else f"{wrong}, and this node has none for that")
    return entry


def never_fits(entry: Entry, capacity_bytes: int, pinned_bytes: int = 0) -> DoesNotFit:
    """capacity_bytes: what the node may use, pinned models included."""
    beside = f", of which pinned models hold {size(pinned_bytes)}" if pinned_bytes else ""
    source = "measured" if entry.measured else f"expected from the files in {entry.spec.path or 'no folder'}"
    return DoesNotFit(
        f"model {entry.spec.id!r} needs {size(entry.needed_bytes)} ({source}), the node may use {size(capacity_bytes)}{beside}: "
        "take it out of models.toml, choose a smaller one, or raise memory_bytes (FABRIC_NODE_MEMORY_BYTES)",
        details={"needed_bytes": entry.needed_bytes, "capacity_bytes": capacity_bytes},
    )


def load_error(error: Exception, model: ModelId) -> FabricError:
    if isinstance(error, FabricError):
        return error
    return LoadFailed(f"model {model!r} could not be loaded ({type(error).__name__}: {error})")


def size(count: int) -> str:
    """As people say it: "1.50 GiB", "70.2 MiB", "1000 bytes"."""
    if count >= _GIB:
        return f"{count / _GIB:.2f} GiB"
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count} bytes"
