"""An HTTP connection that writes once what one step of the event loop has to say, and that an answer can cut: whoever stops
reading a stream must not hold what it waits for for ever.

Not about which answers do so (api/sse.py).
"""

import asyncio
from typing import Any, Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CUT: Final = "fabric.cut"  # in a request's scope: ends its connection at once, and what was not taken is dropped
HOLD: Final = "fabric.hold"  # there too: what is written next may wait for what comes after it
HELD_S: Final = 0.02  # at most; a waking of the reader costs as much as a tenth of a millisecond of work
GATHERED_BYTES: Final = 16 << 10  # that a connection holds until its step is over: a reader who is slow is felt beyond


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with `scope["fabric.cut"]`. Without it, an answer that gives up has no way to end: closing
    waits until the reader has taken what was written before, and it takes nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        gathering = _Gathering(transport, self.loop)
        super().connection_made(cast(asyncio.Transport, gathering))
        app = cast(ASGIApp, self.app)

        async def cuttable(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CUT], scope[HOLD] = transport.abort, gathering.hold
            await app(scope, receive, send)

        self.app = cuttable


class _Gathering:
    """A transport whose writes of one step, such as the head and the body of an answer or the events of one commit, are
    one call of the system."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._may_wait = self._is_due = False

    def hold(self) -> None:
        """What is written next waits up to HELD_S for what comes after it."""
        self._may_wait = True

    def write(self, data: bytes) -> None:
        if self._may_wait:
            self._may_wait = False
            self._loop.call_later(HELD_S, self._flush)
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > GATHERED_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces, self._held_bytes, self._is_due = self._pieces, [], 0, False
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:  # Any: of the transport, as it is
        return getattr(self._transport, name)
