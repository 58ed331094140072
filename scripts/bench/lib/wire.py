"""HTTP/1.1 with as little work as can be: a benchmark's client shares the machine with what it measures."""

import asyncio
import json
import re
from typing import Any, Final, Self

_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Wire:
    """One connection, kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def call(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._writer.write(_request(method, path, body, headers))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return int(head[9:12]), await self._reader.readexactly(int(length.group(1)) if length else 0)

    async def stream(self, path: str, headers: str = "") -> asyncio.StreamReader:
        """Where the answer's chunks can be read, as they come."""
        self._writer.write(_request("GET", path, b"", headers))
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head[9:12] == b"200", head
        return self._reader

    def close(self) -> None:
        self._writer.close()


def _request(method: str, path: str, body: bytes, headers: str) -> bytes:
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{content}\r\n".encode() + body


def encoded(body: dict[str, Any]) -> bytes:  # Any: JSON
    return json.dumps(body).encode()
