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

from router.connections import CUT, HOLD

log = logging.getLogger(__name__)

HEARTBEAT: Final = b": heartbeat\n\n"
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}  # proxies pass each event on at once

# For a route's responses=...: what a stream looks like in the OpenAPI document.
_TEXT: Final = {"type": "string"}
_EVENT: Final = {
    "type": "object",
    "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT | {"description": "one line of JSON"}},
    "required": ["event", "data"],
}
DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "server-sent events, each as here", "content": {"text/event-stream": {"schema": _EVENT}}}
}


def event_text(kind: str, data: Mapping[str, Any], id: str | None = None) -> bytes:  # noqa: A002  # the field's name
    """One event. Without an id a reader's Last-Event-ID stays what it was."""
    head = f"id: {id}\n" if id is not None else ""
    # ASCII alone: the official client splits lines as str.splitlines does, also at U+2028 and U+0085.
    return f"{head}event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()


PATIENCE_S: Final = 30.0  # with a reader that takes nothing


class EventStream(Response):
    """Sends what `source` yields. `closing` ends the stream early, so that no open stream holds up the router's end.

    A reader that takes nothing for `patience_s` is cut off. Until then it holds one page of events and what the
    connection buffers, never more; it has all before the cut whole, and resumes after the last id that it saw.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        closing: asyncio.Event,
        status_code: int = 200,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(None, status_code, _HEADERS)
        del self.headers["content-length"]
        self._source, self._closing, self._patience_s = source, closing, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if HOLD in scope:
            scope[HOLD]()  # the head goes with the first event, if that comes at once
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
        if gone.done() and not gone.cancelled():
            return
        try:
            if sending.cancelled():
                await self._send(send, b"", more=False)
            else:
                sending.result()
        except _StoppedReadingError:
            log.info("%s: its reader took nothing for %g s and was cut off", scope["path"], self._patience_s)
            scope[CUT]()
            await has_gone(receive)

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._source):
            async for piece in self._source:
                await self._send(send, piece, more=True)
        await self._send(send, b"", more=False)  # with the last event, in one write

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise _StoppedReadingError from None


class _StoppedReadingError(Exception):
    """The reader takes nothing. Never leaves this module."""


async def has_gone(receive: Receive) -> None:
    """Returns when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
