"""An HTTP connection that an answer can cut: whoever stops reading a stream must not hold what it waits for for ever.

Not about which answers do so (api/sse.py).
"""

import asyncio
from typing import Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CUT: Final = "fabric.cut"  # in a request's scope: ends its connection at once, and what was not taken is dropped


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with `scope["fabric.cut"]`. Without it, an answer that gives up has no way to end: closing
    waits until the reader has taken what was written before, and it takes nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        app = cast(ASGIApp, self.app)

        async def cuttable(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CUT] = transport.abort
            await app(scope, receive, send)

        self.app = cuttable
