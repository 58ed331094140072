"""The lines of a trace: what came to a node, when, how large, and how it ended. No content, no names of organizations.

One JSON object a line, with its `kind`: the node at each start, a model when it is listed and when it was loaded, what a
model's steps cost, and a task when it has ended. Times are seconds since 1970 on the node's monotonic clock.
Not about writing the file (recorder.py) nor about what is made of it (replay/).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, ClassVar, Final, TypeAlias, get_args, get_type_hints

from protos.errors import InputInvalid
from protos.types import Modality

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """A node has started: its device and the settings that decide."""

    kind: ClassVar[str] = "node"
    at_s: float
    version: int
    capacity_bytes: int
    threads: int
    quantum_s: float
    load_wait_s: float
    load_retry_s: float
    min_residency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """A model of the catalog. Later lines replace earlier ones."""

    kind: ClassVar[str] = "model"
    at_s: float
    model: str
    modality: Modality
    seats: int
    waiting_limit: int
    weight: float
    keep_alive_s: float | None
    pin: bool
    preload: bool
    beside_threads: int
    bytes: int  # measured peak, or expected from its files
    load_s: float | None  # None: never loaded yet


@dataclass(frozen=True, slots=True, kw_only=True)
class CostsLine:
    """What steps of a model have cost: device seconds = per_unit_s * units + fixed_s."""

    kind: ClassVar[str] = "costs"
    at_s: float
    model: str
    per_unit_s: float
    fixed_s: float
    most_units: int  # of one step, so far


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """A task has ended, or was refused."""

    kind: ClassVar[str] = "task"
    at_s: float  # it came
    model: str
    modality: Modality
    organization: int  # 1 is the first that came
    priority: int
    timeout_s: float | None
    input: float  # tokens, or seconds of sound
    output: int  # tokens or pictures
    steps: int  # on the device; 0 where it ended before its last one
    units: int
    device_s: float
    waited_s: float | None  # for its seat; None: it got none
    took_s: float
    ended: str  # succeeded, or the code of its error


Line: TypeAlias = NodeLine | ModelLine | CostsLine | TaskLine
SUCCEEDED: Final = "succeeded"
_KINDS: Final[Mapping[str, type[Line]]] = {line.kind: line for line in (NodeLine, ModelLine, CostsLine, TaskLine)}


def written(line: Line) -> str:
    """Without the end of the line."""
    return json.dumps({"kind": line.kind, **asdict(line)}, separators=(",", ":"))


def read(text: str, where: str) -> Line:
    """where: the file and the line, for messages. Raises InputInvalid."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise InputInvalid.at(where, f"is no JSON ({error}): a trace is what FABRIC_NODE_TRACE has recorded") from error
    shown = given.get("kind") if isinstance(given, dict) else given
    kind = _KINDS.get(shown) if isinstance(shown, str) else None
    if kind is None or not isinstance(given, dict):
        raise InputInvalid.at(where, f"is of no kind that a trace has ({shown!r:.40}): give one of {', '.join(_KINDS)}")
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(given, field.name, hints[field.name], where) for field in fields(kind)})


def _value(given: Mapping[str, Any], name: str, wanted: Any, where: str) -> Any:  # Any: JSON, and a type hint
    if name not in given:
        raise InputInvalid.at(where, f"has no {name!r}: a trace of another version, or a line that was cut")
    value = given[name]
    allowed = get_args(wanted) or (wanted,)
    if value is None and NoneType in allowed:
        return None
    if Modality in allowed and value in tuple(Modality):
        return Modality(value)
    if isinstance(value, bool) == (bool in allowed):
        if float in allowed and isinstance(value, int | float) and value >= 0:
            return float(value)
        if isinstance(value, allowed) and (isinstance(value, str) or value >= 0):
            return value
    names = " or ".join(each.__name__ for each in allowed if each is not NoneType)
    raise InputInvalid.at(where, f"has {name} = {value!r:.40}: give {names}, not below 0")
