"""Bytes staged ahead of the task that refers to them: bounded, and dropped when no task asks for them in time."""

import asyncio
from dataclasses import dataclass

from protos.errors import Conflict, InputInvalid, NotFound, Overloaded


@dataclass(slots=True)
class _Staged:
    data: bytearray
    expiry: asyncio.TimerHandle
    is_complete: bool = False


class Uploads:
    """Blobs by id. Event loop only."""

    def __init__(self, limit_bytes: int, expiry_s: float, setting: str = "FABRIC_NODE_UPLOAD_BYTES") -> None:
        """setting: what raises the limit, for messages."""
        self._limit_bytes, self._expiry_s, self._setting = limit_bytes, expiry_s, setting
        self._staged: dict[str, _Staged] = {}
        self._bytes = 0

    def begin(self, blob_id: str) -> None:
        """Raises InputInvalid without an id, Conflict when the id is taken."""
        if not blob_id:
            raise InputInvalid.at("blob_id", "is empty: choose an id for the bytes")
        if blob_id in self._staged:
            raise Conflict(f"blob {blob_id!r} is already staged: choose another id")
        expiry = asyncio.get_running_loop().call_later(self._expiry_s, self.drop, blob_id)
        self._staged[blob_id] = _Staged(bytearray(), expiry)

    def append(self, blob_id: str, data: bytes) -> None:
        """Raises Overloaded, and drops the blob, when all staged bytes together would be too many."""
        staged = self._find(blob_id)
        if self._bytes + len(data) > self._limit_bytes:
            self.drop(blob_id)
            raise Overloaded(
                f"{self._bytes + len(data)} bytes would be staged, the limit is {self._limit_bytes}: retry later, "
                f"send less, or raise {self._setting}",
                retry_after_s=self._expiry_s,
            )
        staged.data += data
        self._bytes += len(data)

    def complete(self, blob_id: str) -> int:
        """Its size in bytes; from now on a task can refer to it."""
        staged = self._find(blob_id)
        staged.is_complete = True
        return len(staged.data)

    def read(self, blob_id: str) -> bytes:
        """The bytes; they stay, so that a call may be repeated. Raises NotFound."""
        staged = self._staged.get(blob_id)
        if staged is None or not staged.is_complete:
            raise NotFound(f"no blob {blob_id!r} is staged: its task ended, it expired, or it was never uploaded")
        return bytes(staged.data)

    def drop(self, blob_id: str) -> None:
        staged = self._staged.pop(blob_id, None)
        if staged is not None:
            staged.expiry.cancel()
            self._bytes -= len(staged.data)

    def close(self) -> None:
        for blob_id in list(self._staged):
            self.drop(blob_id)

    def _find(self, blob_id: str) -> _Staged:
        staged = self._staged.get(blob_id)
        if staged is None:
            raise NotFound(f"blob {blob_id!r} expired while it was uploaded: send it again, faster")
        return staged
