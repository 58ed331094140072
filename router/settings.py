"""The settings of a router, read once from the environment and the command line into one frozen object.

Not about the node's settings (node/settings.py).
"""

import errno
import ipaddress
import math
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from protos.errors import Conflict, InputInvalid
from providers.settings import ProviderSettings, is_provider_variable, provider_settings
from router.targets import Allowed

PREFIX: Final = "FABRIC_"
_NODE_PREFIX: Final = "FABRIC_NODE_"  # node/settings.py reads these


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Each field but `vendors` is FABRIC_ and its name in capitals. Lists are separated by commas."""

    host: str = "127.0.0.1"  # any other than loopback needs a key: one of these, or an administrator's in the store
    port: int = 3001  # the official client's default
    grpc_host: str = "127.0.0.1"  # any other than loopback needs api_keys, a certificate and its key
    grpc_port: int = 3002
    grpc_certificate: Path | None = None  # PEM, of TLS: the chain, the server's own first
    grpc_private_key: Path | None = None  # PEM
    nodes: tuple[str, ...] = ("127.0.0.1:3100",)  # gRPC addresses
    data_dir: Path = Path("data")  # the database lies here
    models: Path | None = None  # the models.toml whose [[alias]] entries count; None: there are no aliases
    api_keys: tuple[str, ...] = field(default=(), repr=False)  # the administrator's: of all organizations, unlimited
    secret_key: tuple[str, ...] = field(default=(), repr=False)  # seals secrets, newest first; none: a file in data_dir

    body_bytes: int = 32 * 1024 * 1024  # of a request; a minute of 16-bit speech in base64 is under 8 MiB
    input_chars: int = 1_000_000  # of all text in one input; the longest contexts end near 500,000
    metadata_bytes: int = 16 * 1024  # of a job's metadata, as JSON
    waiting_limit: int = (
        10_000  # jobs; one more is refused with OVERLOADED. A row is small: minutes of backlog, not hours
    )

    assets_url: str = ""  # where files are kept: a folder, or s3://bucket/path, of this router alone; "": in data_dir
    public_url: str = ""  # how clients reach this router, for the URLs it gives out; "": of host and port
    asset_bytes: int = 1 << 30  # of one file; five hours of 16-bit speech at 16 kHz are 576 MB
    asset_quota_bytes: int = 20 << 30  # of all files of one organization
    asset_retention_s: float = 7 * 24 * 3600.0  # of files that came with a job or out of one; 0: until deleted
    upload_retention_s: float = 0.0  # of files uploaded to /v1/assets; 0: until deleted
    fetch_bytes: int = 256 << 20  # of a file behind a URL in a job's input
    fetch_timeout_s: float = 60.0  # to get it
    file_memory_bytes: int = 1 << 30  # of the files of jobs that run; those that wait are on the disk alone

    key_rate_per_s: float = 500.0  # requests of one stored key, unless it has a rate of its own
    key_jobs_limit: int = 1000  # pending and started jobs of one stored key, unless it has a limit of its own

    execute_timeout_s: float = 300.0  # of a direct call that states no timeout_s
    lease_s: float = 10.0  # a router that stops renewing loses its jobs after this
    max_attempts: int = 5  # starts of one job
    heartbeat_s: float = 15.0  # between comments on an idle event stream; proxies cut at 30 to 60 s
    reader_patience_s: float = 30.0  # the reader of a stream who takes nothing for so long is cut off, and can resume

    # Addresses that URLs of callers (webhooks, files) may lead to besides public ones: true, networks, addresses, names.
    allow_private_targets: tuple[str, ...] = ()
    webhook_timeout_s: float = 15.0  # of one delivery
    webhook_retention_s: float = 7 * 24 * 3600.0  # of deliveries that have ended, in the list of their webhook
    webhooks_per_organization: int = 100

    vendors: ProviderSettings = field(default_factory=ProviderSettings)  # from the variables of each vendor

    def __post_init__(self) -> None:
        errors = [(_variable(name), message) for name, message in _wrong(self)]
        if errors:
            raise InputInvalid.of(errors)

    @classmethod
    def load(cls, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> "RouterSettings":
        """From FABRIC_* and the vendors' variables; `overrides` (by field name, None: not given) win. Raises InputInvalid."""
        given: dict[str, Any] = {}  # Any: each field has its own type
        for variable, text in environ.items():
            if variable.startswith(PREFIX) and not _is_read_elsewhere(variable):
                known = _field(variable)
                given[known.name] = _parsed(variable, text, known.type)
        given["vendors"] = provider_settings(environ)
        given |= {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls(**given)

    @property
    def providers(self) -> ProviderSettings:
        """Every place that tasks can go: the nodes and the vendors."""
        return replace(self.vendors, nodes=self.nodes)

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data_dir.absolute() / 'fabric.db'}"

    @property
    def assets_place(self) -> str:
        return self.assets_url or str(self.data_dir.absolute() / "assets")

    @property
    def public_base(self) -> str:
        """What stands before the paths of URLs that are given out; "" where nobody knows: then they are paths."""
        if self.public_url or not self.port or _is_any(self.host):
            return self.public_url.rstrip("/")
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def bind(settings: RouterSettings) -> socket.socket:
    """The listening socket, taken before anything else starts. Raises Conflict when the port is taken, InputInvalid
    when the host is not an address of this machine."""
    return _bound(settings.host, settings.port, "PORT", "HOST")


def bind_grpc(settings: RouterSettings) -> socket.socket:
    """The same for the gRPC door, whose server cannot take a socket over: it tells in time, and is closed before."""
    return _bound(settings.grpc_host, settings.grpc_port, "GRPC_PORT", "GRPC_HOST")


def _bound(host: str, port: int, port_setting: str, host_setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        where = f"port {port} on {host}"
        change = f"with --{port_setting.lower().replace('_', '-')} or {PREFIX}{port_setting}"
        raise _bind_error(error, where, change, PREFIX + host_setting, host) from error
    return listener


def _bind_error(error: OSError, where: str, change: str, host_variable: str, host: str) -> Conflict | InputInvalid:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"{where} is taken: stop what listens there, or choose another {change}")
    if error.errno == errno.EACCES:
        return Conflict(f"{where} needs more rights than this user has: choose one above 1023 {change}")
    return InputInvalid.at(host_variable, f"cannot listen on {host!r} ({error}): use 127.0.0.1")


def reachable_hosts(settings: RouterSettings) -> Sequence[tuple[str, str]]:
    """(variable, address) of those it listens on that other machines can reach: nobody is let in there without a key."""
    hosts = (("host", settings.host), ("grpc_host", settings.grpc_host))
    return [(_variable(name), host) for name, host in hosts if not is_loopback(host)]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    """Listens on every address, and so names none."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


# ---- reading ----

_READ: Final[Mapping[object, Callable[[str], object]]] = {
    str: str,
    int: int,
    float: float,
    Path: Path,
    Path | None: Path,
    tuple[str, ...]: lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
}


def _is_read_elsewhere(variable: str) -> bool:
    return variable.startswith(_NODE_PREFIX) or is_provider_variable(variable)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _field(variable: str) -> Field[Any]:  # Any: of each field's own type
    """The field of a variable. Raises InputInvalid when there is none."""
    known = {_variable(entry.name): entry for entry in fields(RouterSettings) if entry.name != "vendors"}
    if variable not in known:
        raise InputInvalid.at(variable, f"is not a setting: there are {', '.join(sorted(known))}")
    return known[variable]


def _parsed(variable: str, text: str, kind: object) -> object:
    try:
        return _READ[kind](text)
    except ValueError:
        raise InputInvalid.at(variable, f"is {text!r}: give a number") from None


def _wrong(settings: RouterSettings) -> list[tuple[str, str]]:
    """(field, what is wrong) for each field that cannot be."""
    wrong = []
    if not 0 <= settings.port <= 65535:
        wrong.append(("port", f"is {settings.port}: use 1 to 65535, or 0 for any free one"))
    wrong.extend(_wrong_of_grpc(settings))
    unclear = [node for node in settings.nodes if not _NODE_ADDRESS.fullmatch(node)]
    wrong.extend(("nodes", f"has {node!r}: give host:port, such as 127.0.0.1:3100, or unix:/path") for node in unclear)
    if settings.public_url and not settings.public_url.startswith(("http://", "https://")):
        wrong.append(("public_url", f"is {settings.public_url!r}: begin with http:// or https://"))
    kept = ((name, getattr(settings, name)) for name in ("asset_retention_s", "upload_retention_s"))
    wrong.extend((name, f"is {age:g}: use seconds, or 0 for no end") for name, age in kept if not 0 <= age < math.inf)
    amounts = ((name, getattr(settings, name)) for name in _POSITIVE)
    wrong.extend((name, f"is {amount}: use more than 0") for name, amount in amounts if not 0 < amount < math.inf)
    try:
        Allowed.of(settings.allow_private_targets)
    except ValueError as error:
        wrong.append(("allow_private_targets", str(error)))
    short = [key for key in settings.api_keys if len(key) < _KEY_CHARS]
    if short:
        wrong.append(("api_keys", f"has {len(short)} of under {_KEY_CHARS} characters: use long random ones"))
    return wrong


def _wrong_of_grpc(settings: RouterSettings) -> list[tuple[str, str]]:
    wrong = []
    host, certificate, key = settings.grpc_host, settings.grpc_certificate, settings.grpc_private_key
    if not 0 <= settings.grpc_port <= 65535:
        wrong.append(("grpc_port", f"is {settings.grpc_port}: use 1 to 65535, or 0 for any free one"))
    if (certificate is None) is not (key is None):
        lacking, given = ("private_key", "certificate") if key is None else ("certificate", "private_key")
        wrong.append((f"grpc_{lacking}", f"is missing beside FABRIC_GRPC_{given.upper()}: TLS needs both"))
    if not is_loopback(host) and not (certificate and key):
        wrong.append(
            (
                "grpc_host",
                f"is {host!r}, which other machines can reach: set FABRIC_GRPC_CERTIFICATE and "
                "FABRIC_GRPC_PRIVATE_KEY, or use 127.0.0.1",
            )
        )
    return wrong


_NODE_ADDRESS: Final = re.compile(r"unix:.+|.+:\d+")  # what gRPC takes and needs no default port
_KEY_CHARS: Final = 16
_POSITIVE: Final = (
    "body_bytes",
    "input_chars",
    "metadata_bytes",
    "waiting_limit",
    "key_rate_per_s",
    "key_jobs_limit",
    "asset_bytes",
    "asset_quota_bytes",
    "fetch_bytes",
    "fetch_timeout_s",
    "file_memory_bytes",
    "execute_timeout_s",
    "lease_s",
    "max_attempts",
    "heartbeat_s",
    "reader_patience_s",
    "webhook_timeout_s",
    "webhook_retention_s",
    "webhooks_per_organization",
)
