"""Another Fabric router as a provider: it serves a node's contract at its gRPC door, so a node's client speaks with it.

Offers what the other box's own nodes serve; its vendors are not offered, as what they cost is not ours to spend.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc

from protos.errors import InputInvalid
from protos.locality import is_local
from protos.types import ProviderId
from providers.node import SILENCE_S, NodeProvider, Peer
from providers.settings import FabricRouter

KIND: Final = "fabric"


def fabric(router: FabricRouter, on_change: Callable[[], None], *, silence_s: float = SILENCE_S) -> NodeProvider:
    """Over TLS, except to this machine. Raises InputInvalid when the file of its authority cannot be read."""
    peer = Peer(
        kind=KIND,
        called="router",
        credentials=_credentials(router),
        metadata=(("authorization", f"Bearer {router.key}"),) if router.key else (),
        is_router=True,
    )
    return NodeProvider(ProviderId(router.name), router.target, on_change, peer=peer, silence_s=silence_s)


def _credentials(router: FabricRouter) -> grpc.ChannelCredentials | None:
    """None to this machine, unless an authority is named: then its door has a certificate there too."""
    if router.authority is None and is_local(router.target):
        return None
    return grpc.ssl_channel_credentials(None if router.authority is None else _read(router.name, router.authority))


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        variable = f"FABRIC_ROUTERS_{name.upper().replace('-', '_')}_CA"
        raise InputInvalid.at(variable, f"is {str(path)!r}, which cannot be read ({error.strerror})") from error
