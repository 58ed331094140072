"""The file that the hashes of API keys are keyed with: 32 random bytes beside the database, for this user's eyes only.

Not about the hashes (keyring.py), nor what seals secrets that must be readable again (vault.py).
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from protos.errors import Conflict, InvalidRequest

SECRET_FILE: Final = "api-keys.secret"  # noqa: S105  # its name
_BYTES: Final = 32


def secret_of(data_dir: Path) -> bytes:
    """What the hashes are keyed with; made at the first start. Raises InvalidRequest, Conflict."""
    path = data_dir / SECRET_FILE
    try:
        if not path.exists():
            _write_new(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Conflict(f"{path} can be read by other users: chmod 600 {path}")
        return path.read_bytes()
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be used ({exc.strerror}): name another folder with --data") from exc


def _write_new(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_BYTES))
        file.flush()
        os.fsync(descriptor)  # the hashes made with it are durable: it must be too
