"""The bytes of assets: files named by their SHA-256, in a folder or, through fsspec, in a bucket.

Every method blocks: call it on a thread. Not about whose the files are (library.py).
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fsspec
from fsspec.implementations.local import LocalFileSystem
from ulid import ULID

from protos.errors import FabricError, InputInvalid, Internal, InvalidRequest, StorageUnavailable
from router.assets.content import HEAD_BYTES

_SETTING: Final = "FABRIC_ASSETS_URL"
_PROBE: Final = "probe"  # written and removed at the start
_HEX: Final = frozenset("0123456789abcdef")
_SHA256_CHARS: Final = 64
FOLDERS: Final = tuple(f"{number:02x}" for number in range(256))  # a file is in that of its hash's first two digits


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole file on this machine's disk, not yet kept."""

    path: Path
    size_bytes: int
    sha256: str
    head: bytes  # its first bytes, by which its type is told


class Arriving:
    """A file that is being received."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = 0
        self._path, self._file = path, path.open("xb")
        self._digest, self._head = hashlib.sha256(), b""

    def write(self, data: bytes) -> None:
        """Raises StorageUnavailable."""
        try:
            self._file.write(data)
        except OSError as exc:
            raise _unavailable(self._path.parent, exc) from exc
        self._digest.update(data)
        self.size_bytes += len(data)
        self._head += data[: HEAD_BYTES - len(self._head)]

    def complete(self) -> Arrived:
        """On the disk when this returns, so that a record of it never outlives it. Raises StorageUnavailable."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as exc:
            raise _unavailable(self._path.parent, exc) from exc
        return Arrived(self._path, self.size_bytes, self._digest.hexdigest(), self._head)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class Files:
    """Immutable files by the hash of their bytes. `url` is of this router alone: what has no record here is removed."""

    def __init__(self, url: str, spool: Path) -> None:
        """spool: where files arrive that go to a bucket. A folder's own arrive inside it: a rename is atomic within one
        file system only. Raises InputInvalid."""
        try:
            # No listing is remembered: others, such as a lifecycle rule of the bucket, remove files too.
            self._fs, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as exc:
            raise InputInvalid.at(_SETTING, f"is {url!r}, for which a library is missing ({exc}): install it") from exc
        except (ValueError, TypeError) as exc:
            raise InputInvalid.at(_SETTING, f"is {url!r} ({exc}): use a folder, or a bucket as s3://name/path") from exc
        self._root = root.rstrip("/")
        self._is_folder = isinstance(self._fs, LocalFileSystem)
        self._spool = Path(self._root) / "arriving" if self._is_folder else spool

    def open(self) -> None:
        """Makes the folders and drops what was arriving when the last process ended. Raises InvalidRequest."""
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
            for left in self._spool.iterdir():
                left.unlink()
            self._fs.pipe_file(f"{self._root}/{_PROBE}", b"")  # said now, not at the first upload
            self._fs.rm_file(f"{self._root}/{_PROBE}")
        except Exception as exc:  # each file system has errors of its own, OSError and the bucket libraries' alike
            raise InvalidRequest(f"the assets cannot be kept at {self._root} ({exc}): set {_SETTING} right") from exc

    def arriving(self) -> Arriving:
        return Arriving(self._spool / str(ULID()))

    def keep(self, arrived: Arrived) -> None:
        """Moves the file to its place, at once or not at all; one with these bytes that is there already stays."""
        path = self._path(arrived.sha256)
        with self._named_errors():
            if self._fs.exists(path):
                arrived.path.unlink()
            elif self._is_folder:
                _move(arrived.path, Path(path))
            else:
                self._fs.put_file(str(arrived.path), path)
                arrived.path.unlink()

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` up to, and without, `end`."""
        with self._named_errors():
            try:
                data: bytes = self._fs.cat_file(self._path(sha256), start=start, end=end)
            except FileNotFoundError as exc:
                raise Internal(f"the file {sha256} is gone from {self._root}, though an asset refers to it") from exc
        return data

    def remove(self, sha256: str) -> None:
        with self._named_errors(), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(sha256))

    def kept(self, folder: str) -> Sequence[str]:
        """The hashes of the files in one of the FOLDERS."""
        place = f"{self._root}/{folder}"
        with self._named_errors():
            found: Sequence[str] = self._fs.find(place)  # nothing where the folder is not there yet
        return [path.rpartition("/")[2] for path in found if _is_ours(path)]

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Raises StorageUnavailable."""
        try:
            yield
        except FabricError:
            raise
        except Exception as exc:  # each file system has errors of its own, OSError and the bucket libraries' alike
            raise _unavailable(self._root, exc) from exc

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"


def _is_ours(path: str) -> bool:
    """Nothing else in the folder or the bucket is touched."""
    folder, _, name = path.rpartition("/")
    return len(name) == _SHA256_CHARS and _HEX.issuperset(name) and folder.endswith(f"/{name[:2]}")


def _unavailable(place: object, exc: Exception) -> StorageUnavailable:
    return StorageUnavailable(f"assets cannot be kept or read at {place} ({exc}): make room there, or try again later")


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    source.replace(target)
    for folder in (target.parent, target.parent.parent):  # their entries are data too
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
