"""A router with a node on a thread of its own, for tests that wait without an event loop."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from edge import BOUND_S, answering, fake_node

from router.settings import RouterSettings


@contextmanager
def answering_apart(folder: Path) -> Iterator[str]:
    """Its URL, while it answers. The node has a fake engine of each modality."""
    started, url = threading.Event(), ""
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        nonlocal url
        async with (
            fake_node(folder / "node") as node,
            answering(RouterSettings(port=0, data_dir=folder, nodes=(node.target,))) as edge,
        ):
            await edge.until("/readyz", lambda response: response.status_code == httpx.codes.OK)
            url = edge.url
            started.set()
            await over.wait()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=serve, name="router", daemon=True)
    thread.start()
    assert started.wait(BOUND_S), "the router has not started"
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(BOUND_S)
