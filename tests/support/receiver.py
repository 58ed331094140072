"""A server on a socket that webhooks are sent to: keeps what it got, and answers as it is told."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

BOUND_S = 60.0


@dataclass(frozen=True)
class Received:
    path: str
    headers: httpx.Headers
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["x-fabric-event"]


@dataclass(frozen=True)
class Reply:
    """`after`: held back until it is set."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: asyncio.Event | None = None


@dataclass
class Receiver:
    port: int = 0
    replies: deque[Reply] = field(default_factory=deque)  # one for each request; then `otherwise`
    otherwise: Reply = field(default_factory=Reply)
    received: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def events(self) -> list[str]:
        return [received.event for received in self.received]

    async def until(self, count: int) -> list[Received]:
        """What came, once it is that many."""
        async with asyncio.timeout(BOUND_S), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # cancelled: the end of the test; the stream's own callback would log it
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.strip().split("\r\n")
        headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines])  # type: ignore[misc]  # pairs
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        reply = self.replies.popleft() if self.replies else self.otherwise
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async with self._news:
                self.received.append(Received(request.split()[1], headers, body))
                self._news.notify_all()
            if reply.after is not None:
                await reply.after.wait()
        finally:
            self.at_once -= 1
        told = [f"HTTP/1.1 {reply.status} Any", "content-length: 0", *map(": ".join, reply.headers.items())]
        writer.write("\r\n".join([*told, "", ""]).encode())
        await writer.drain()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await receiver.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
