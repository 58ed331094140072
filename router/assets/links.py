"""URLs that open one asset until a moment, without a key: the id and the moment, signed."""

import hmac
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protos.errors import Conflict, Forbidden, InvalidRequest
from router.assets.asset import Asset, AssetId

KEY_FILE: Final = "assets.key"  # in the data directory; without it, the URLs that were given out open nothing
LASTING_S: Final = 7 * 24 * 3600.0
_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Links:
    """Signs and checks. `base`: what stands before the path, "" for paths alone."""

    def __init__(self, key: bytes, base: str, clock: Callable[[], float]) -> None:
        self._key, self._base, self._clock = key, base.rstrip("/"), clock

    def lasting(self, asset: Asset) -> str:
        """For as long as the asset is kept; LASTING_S where nothing ends that."""
        return self.url(asset.id, self._clock() + LASTING_S if asset.expires_at is None else asset.expires_at)

    def until(self, asset: Asset, ttl_s: float) -> float:
        """When a URL that should last so long ends: none outlives its asset."""
        wanted = self._clock() + ttl_s
        return wanted if asset.expires_at is None else min(wanted, asset.expires_at)

    def url(self, asset_id: AssetId, expires_at: float) -> str:
        """Opens the asset until then, or until the whole second after it."""
        until = str(math.ceil(expires_at))
        return f"{self._base}/v1/assets/{asset_id}?expires={until}&signature={self._signature(asset_id, until)}"

    def check(self, asset_id: str, expires: str, signature: str) -> None:
        """Raises Forbidden, which says whether the URL is too old or was never ours."""
        if not hmac.compare_digest(self._signature(asset_id, expires).encode(), _bytes(signature)):
            raise Forbidden(
                f"the signature is not this router's for asset {asset_id[:80]!r}: use the URL exactly as it was given"
            )
        if int(expires) <= self._clock():
            raise Forbidden(
                f"this URL of asset {asset_id} has expired: POST /v1/assets/{asset_id}/signed-url gives a new one"
            )

    def _signature(self, asset_id: str, expires: str) -> str:
        return hmac.digest(self._key, _bytes(f"{asset_id}\n{expires}"), "sha256").hex()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # a query can hold anything


def key_of(data_dir: Path) -> bytes:
    """The key of a router, made when there is none. Raises InvalidRequest, and Conflict for a file that others can
    read or that holds no key."""
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _write_new(path)
        if path.stat().st_mode & _OTHERS:
            raise Conflict(f"{path} can be read by other users, and it opens every asset: chmod 600 {path}")
        key = path.read_bytes()
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be used ({exc.strerror}): name another folder with --data") from exc
    if len(key) != _KEY_BYTES:
        raise Conflict(f"{path} has {len(key)} bytes, a key has {_KEY_BYTES}: remove the file, and a new one is made")
    return key


def _write_new(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)  # of a process that ended in between
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
        file.flush()
        os.fsync(descriptor)
    draft.rename(path)
