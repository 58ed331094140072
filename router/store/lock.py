"""One router per SQLite file: a lock on `<file>.lock` that the kernel takes back when the process ends, however it ends."""

import fcntl
import os
from pathlib import Path

from protos.errors import Conflict


class FileTaken(Conflict):
    """A router that runs has the database."""


class FileLock:
    """Held from `acquire` until `release`, or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises FileTaken when another store, in this process or another, has the file."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise FileTaken(
                f"the jobs in {self._path} belong to a router that runs (process {owner}): stop it, or give this one "
                "a database file of its own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
