"""A stand-in on a real socket, inside the test's own loop, and what every stand-in does with a fault."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from vendors.faults import Cut, Ends, FailsWithin, Fault, Garbage, Hang, Stall

BOUND_S = 60.0


class CutHere(Exception):
    """Ends the connection where it stands: the server drops it, as a vendor that dies does."""


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The URL of the app."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(BOUND_S):
            await running
        listener.close()


async def spoiled(chunks: AsyncIterator[str], fault: Fault | None, error: str) -> AsyncIterator[str]:
    """The chunks of a streamed answer as the fault lets them through. error: the vendor's event of an error within."""
    count = 0
    async for chunk in chunks:
        match fault:
            case Cut(chunks=limit) if count == limit:
                raise CutHere
            case Ends(chunks=limit) if count == limit:
                return
            case Stall(until=until, chunks=limit) if count == limit:
                await until.wait()
            case Garbage(text=text, chunks=limit) if count == limit:
                yield f"data: {text}\n\n"
            case FailsWithin(chunks=limit) if count == limit:
                yield error
                return
            case _:
                pass
        yield chunk
        count += 1


async def head_of(fault: Fault | None) -> None:
    """Waits as a slow head does."""
    if isinstance(fault, Hang):
        await fault.until.wait()
