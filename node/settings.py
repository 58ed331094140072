"""The settings of a node: read once, from FABRIC_NODE_* and the command line, into one frozen object.

Not about which models it serves (catalog.py).
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, get_type_hints

from protos.errors import InputInvalid
from protos.types import NodeId

PREFIX: Final = "FABRIC_NODE_"
_FIRST: Final = "node-0"
_DEVICE: Final = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Each field is also an environment variable: FABRIC_NODE_ and its name in capitals."""

    listen: str = "127.0.0.1:3100"  # host:port or unix:/path; loopback only, since the contract has no keys yet
    node_id: str = _FIRST  # how routers and the events call it
    device: str = "auto"  # auto, cpu, cuda, cuda:1; auto: the first GPU, else the CPU
    threads: int = (
        0  # of a CPU device; 0: half of the processors, since two threads of one core do not add up in matrix work
    )
    models_path: Path = Path("models.toml")
    data_dir: Path = Path("data")  # of what was measured
    memory_bytes: int = 0  # that models may use; 0: all that the device, or the container, has
    quantum_s: float = 0.05  # of a step while other models wait; 50 to 100 ms keep light modalities quick on a CPU
    drain_timeout_s: float = 30.0  # for running tasks at the end; a chat answer of 512 tokens takes less
    load_wait_s: float = (
        300.0  # a task whose model finds no memory for so long is refused; two turns of models of 30 s to load
    )
    load_retry_s: float = 10.0  # after a failed load, until a request may try again
    min_residency_s: float = (
        10.0  # a model stays at least so long, and three times as long as it loads (memory/ledger.py)
    )
    stall_s: float = 30.0  # work waits and no step ends for so long: not ready. The longest CPU step is about 3 s
    hang_s: float = 120.0  # a step that takes longer hangs: the process ends, to be started again; 0: it never does
    trace: str = ""  # a file: what comes is recorded there, without content, for `fabric-node replay`; "": nowhere
    trace_bytes: int = 64 << 20  # of that file and the one before it, FILE.1; some 200,000 tasks
    upload_bytes: int = 1 << 30  # staged at once, of all callers
    upload_expiry_s: float = 300.0  # staged bytes that no task asks for are dropped
    message_bytes: int = 16 << 20  # of one gRPC message; larger blobs are staged

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise _invalid("device", self.device, "auto, cpu, cuda or cuda:N")
        for name in (
            "quantum_s",
            "stall_s",
            "load_wait_s",
            "upload_expiry_s",
            "upload_bytes",
            "message_bytes",
            "trace_bytes",
        ):
            if getattr(self, name) <= 0:
                raise _invalid(name, getattr(self, name), "a number above 0")
        for name in ("threads", "memory_bytes", "drain_timeout_s", "load_retry_s", "min_residency_s", "hang_s"):
            if getattr(self, name) < 0:
                raise _invalid(name, getattr(self, name), "0 or more")
        if not self.node_id:
            raise _invalid("node_id", self.node_id, "a name of at least one character")
        _check_listen(self.listen)

    @classmethod
    def load(cls, environ: Mapping[str, str], overrides: Mapping[str, object | None] | None = None) -> "NodeSettings":
        """The defaults, over them the environment, over that `overrides` (None: not given)."""
        types = get_type_hints(cls)
        given: dict[str, object] = {}
        for key in sorted(environ):
            if key.startswith(PREFIX):
                name = key.removeprefix(PREFIX).lower()
                if name not in types:
                    known = ", ".join(PREFIX + known.name.upper() for known in fields(cls))
                    raise InputInvalid.at(key, f"is no setting of a node; the settings are {known}")
                given[name] = _read(key, environ[key], types[name])
        given.update({name: value for name, value in (overrides or {}).items() if value is not None})
        return cls(**given)  # type: ignore[arg-type]  # each value was read as the type of its field

    @property
    def trace_path(self) -> Path:
        """Of its own for each node that `up` starts: FILE, then FILE with the node's id before the suffix."""
        path = Path(self.trace)
        return path if self.node_id == _FIRST else path.with_name(f"{path.stem}-{self.node_id}{path.suffix}")

    @property
    def id(self) -> NodeId:
        return NodeId(self.node_id)


def _read(key: str, text: str, kind: type) -> object:
    try:
        return kind(text)
    except ValueError as error:
        raise InputInvalid.at(key, f"is {text!r}: give {kind.__name__}") from error


def _check_listen(listen: str) -> None:
    """Raises InputInvalid for an address that other machines could reach, or that is none."""
    if listen.startswith("unix:"):
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise _invalid("listen", listen, "host:port, such as 127.0.0.1:3100, or unix:/path")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise InputInvalid.at(
            "listen",
            f"is {listen!r}: a node has no keys of its own and listens on loopback (127.0.0.1, [::1], localhost) or "
            "unix:/path only; let a router on this machine face the network",
        )


def _invalid(name: str, value: object, allowed: str) -> InputInvalid:
    return InputInvalid.at(name, f"is {value!r}: give {allowed} (--{name.replace('_', '-')} or {PREFIX}{name.upper()})")


def environment() -> Mapping[str, str]:
    """The environment of this process, for `NodeSettings.load`."""
    return os.environ
