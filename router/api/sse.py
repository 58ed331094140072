"""Server-sent events: their text, and an answer that ends when its source does, its reader goes or the router closes.

Source: the event stream format, https://html.spec.whatwg.org/multipage/server-sent-events.html. Not about which events.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

HEARTBEAT: Final = b": heartbeat\n\n"
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # proxies pass each event on at once

# For a route's responses=...: what a stream looks like in the OpenAPI document.
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "server-sent events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def event_text(kind: str, data: Mapping[str, Any], id: str | None = None) -> bytes:  # noqa: A002  # the field's name
    """One event. Without an id a reader's Last-Event-ID stays what it was."""
    head = f"id: {id}\n" if id is not None else ""
    # ASCII alone: the official client splits lines as str.splitlines does, also at U+2028 and U+0085.
    return f"{head}event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()


class EventStream(Response):
    """Sends what `source` yields. `closing` ends the stream early, so that no open stream holds up the router's end."""

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes, None], closing: asyncio.Event, status_code: int = 200) -> None:
        super().__init__(None, status_code, _HEADERS)
        del self.headers["content-length"]
        self._source, self._closing = source, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        gone = asyncio.create_task(has_gone(receive))
        closing = asyncio.create_task(self._closing.wait())
        tasks = {sending, gone, closing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error
        if not gone.done() or gone.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._source):
            async for piece in self._source:
                await send({"type": "http.response.body", "body": piece, "more_body": True})


async def has_gone(receive: Receive) -> None:
    """Returns when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
