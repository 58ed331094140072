"""What must be readable again but never in clear on the disk: seals text with a key, and opens it.

For vendors' keys and webhook secrets. Not for API keys, which nobody has to read again: those are hashed. Not about where
the sealed text is kept (store/).
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from protos.errors import Conflict, InputInvalid, InvalidRequest

KEY_FILE: Final = "secret.key"  # in the data directory: beside what it opens, so a copy of the database alone is sealed
_VARIABLE: Final = "FABRIC_SECRET_KEY"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_HOW_TO_MAKE_ONE: Final = "make one with: openssl rand -base64 32 | tr '+/' '-_'"


class SealBroken(Conflict):
    """What was sealed cannot be opened with the keys that this router has."""


class Vault:
    """Seals with the first key, opens with any of them: a new key goes before the old ones, which stay until `reseal`.

    Source: https://github.com/fernet/spec (AES-128 in CBC mode, HMAC-SHA256).
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """keys: 32 bytes each in URL-safe base64, newest first. Raises InputInvalid, without the value."""
        if not keys:
            raise InputInvalid.at(_VARIABLE, f"is empty: {_HOW_TO_MAKE_ONE}")
        self._fernet = MultiFernet([_fernet(key, index) for index, key in enumerate(keys)])

    def seal(self, text: str) -> str:
        """ASCII; differs each time, also for the same text."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises SealBroken."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise _broken() from None

    def reseal(self, sealed: str) -> str:
        """The same text under the newest key. Raises SealBroken."""
        try:
            return self._fernet.rotate(sealed).decode()
        except InvalidToken:
            raise _broken() from None

    def __repr__(self) -> str:
        return "Vault()"


def vault_of(data_dir: Path, keys: Sequence[str]) -> Vault:
    """The vault of a router: the keys of its settings, then those of the key file, one a line, newest first. The file is
    made when there is no key at all. Raises InputInvalid, InvalidRequest, and Conflict for a file that others can read."""
    path = data_dir / KEY_FILE
    try:
        if not keys and not path.exists():
            _write_new(path)
        kept = _read(path) if path.exists() else []
    except OSError as exc:
        raise InvalidRequest(
            f"{path} cannot be used ({exc.strerror}): name another folder with --data, or set {_VARIABLE}"
        ) from exc
    return Vault([*keys, *kept])


def _fernet(key: str, index: int) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise InputInvalid.at(
            _VARIABLE, f"key {index + 1} is not 32 bytes in URL-safe base64: {_HOW_TO_MAKE_ONE}"
        ) from None


def _write_new(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(Fernet.generate_key() + b"\n")
        file.flush()
        os.fsync(descriptor)  # what is sealed with it is durable: it must be too


def _read(path: Path) -> list[str]:
    if path.stat().st_mode & _OTHERS:
        raise Conflict(f"{path} can be read by other users, and it opens every secret kept here: chmod 600 {path}")
    keys = path.read_text(encoding="ascii", errors="replace").split()
    if not keys:
        raise Conflict(f"{path} has no key: put the old one back, or remove the file and set the secrets again")
    return keys


def _broken() -> SealBroken:
    return SealBroken(
        f"a secret kept here was sealed with another key: give {_VARIABLE} the old key after the new one, or set the "
        "secret again"
    )
