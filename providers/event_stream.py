"""The events of an answer that vendors stream, as server-sent events: what came in one read is one list.

The official clients build an object of their own types for each event, which takes four times as long as all the rest of a
call; these are decoded JSON. Source: the event stream format, https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

_DONE: Final = b"[DONE]"
_DRAIN_S: Final = 1.0  # for the end of a body whose last event has come: a connection that is read to its end is kept
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")

Events = AsyncGenerator[Sequence[dict[str, Any]], None]  # Any: decoded JSON


async def events_of(pieces: AsyncIterator[bytes]) -> Events:
    """The data of the events of a body, as it arrives; one that says [DONE] is the last. Raises ValueError for one that is
    no JSON object."""
    rest = b""
    async with aclosing(cast(AsyncGenerator[bytes, None], pieces)) as body:
        async for piece in body:
            *whole, rest = _split(rest + piece)
            found = [data for event in whole if (data := _data(event))]
            is_over = _DONE in found
            if listed := _decoded(found[: found.index(_DONE)] if is_over else found):
                yield listed
            if is_over:
                await _drained(body)
                return
    if data := _data(rest):  # some servers forget the last blank line
        yield [] if data == _DONE else _decoded([data])


def _split(received: bytes) -> list[bytes]:
    return _EVENT_END.split(received) if b"\r" in received else received.split(b"\n\n")


def _data(event: bytes) -> bytes:
    if event.startswith(b"data:") and b"\n" not in event:  # as nearly all are
        return event[5:].strip()
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _decoded(found: Sequence[bytes]) -> Sequence[dict[str, Any]]:  # Any: as above
    """In one go: each call of the decoder costs more than an event."""
    listed = json.loads(b"[%b]" % b",".join(found))
    if len(listed) != len(found) or not all(isinstance(event, dict) for event in listed):
        raise ValueError(f"an event that is no JSON object, among {len(found)}")
    return cast(Sequence[dict[str, Any]], listed)


async def _drained(body: AsyncIterator[bytes]) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in body:
                pass
    except TimeoutError:
        pass
