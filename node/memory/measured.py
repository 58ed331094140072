"""What loading a model took, remembered across restarts, so that the ledger reserves measured peaks from the start."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from node.engine import DeviceSpec, ModelSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one model in one shape on one kind of device."""

    peak_bytes: int  # held between steps, plus the most that a step adds
    load_s: float


def key_of(spec: ModelSpec, device: DeviceSpec) -> str:
    """What the peak depends on: the files, the type of the numbers, and the shape of the largest step."""
    shape = f"{spec.seats}x{spec.step_tokens}x{spec.context_tokens or 'own'}"
    return "|".join([spec.path or spec.id, str(spec.file_bytes), spec.engine, spec.dtype, shape, device.torch_name])


class Memory(Protocol):
    """What was measured, by key."""

    def recall(self, key: str) -> Measured | None: ...

    def remember(self, key: str, measured: Measured) -> None: ...


class Memories:
    """A JSON file of Measured by key. Written whole and renamed, so a reader never sees half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Measured] = _read(path)

    def recall(self, key: str) -> Measured | None:
        return self._known.get(key)

    def remember(self, key: str, measured: Measured) -> None:
        self._known[key] = measured
        _write(self._path, {name: asdict(known) for name, known in sorted(self._known.items())})


def _read(path: Path) -> dict[str, Measured]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {key: Measured(int(row["peak_bytes"]), float(row["load_s"])) for key, row in rows.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is unreadable (%s): the models are measured anew", path, error)
        return {}


def _write(path: Path, rows: Mapping[str, Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        json.dump(rows, file, indent=1)
    os.replace(file.name, path)
