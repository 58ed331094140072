"""A reader of a stream who stops reading: cut off, forgotten, and able to resume where it stopped."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge import BOUND_S, Edge, answering
from scripted import a_request, claimed

from protos.types import DEFAULT_ORGANIZATION
from router.jobs import EventKind, new_job
from router.settings import RouterSettings

EVENTS = 160
PATIENCE_S = 2.0  # far above what a busy machine stands still, when nobody reads
NOTE = "x" * 100_000  # so many of these are more than the system buffers for a connection


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), reader_patience_s=PATIENCE_S)
    async with answering(settings) as edge:
        yield edge


async def history(edge: Edge) -> str:
    """A job with a long history, not ended; its id."""
    await edge.parts.runner.close()  # it would take the job
    store = edge.parts.store
    request = a_request(organization_id=DEFAULT_ORGANIZATION, model="held")
    job, _ = await store.create(new_job(request, 1_800_000_000.0), 10)
    (lease,) = await claimed(store, {request.lane: 1}, 600.0)
    for _ in range(EVENTS):
        await store.append(lease, EventKind.PROGRESS, {"progress": 0.5, "note": NOTE})
    return job.id


async def opened(edge: Edge, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    host, port = edge.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer


async def last_id_before_the_cut(reader: asyncio.StreamReader) -> int:
    """Reads what is left of the stream; the number of the last event that came whole."""
    text = b""
    try:
        while piece := await reader.read(1 << 16):
            text += piece
    except ConnectionResetError:
        pass
    whole = text.decode().split("\n\n")[:-1]
    ids = [line.removeprefix("id: ") for event in whole for line in event.splitlines() if line.startswith("id: ")]
    return int(ids[-1]) if ids else 0


async def test_it_is_cut_off_and_resumes_where_it_stopped(edge: Edge) -> None:
    job_id = await history(edge)
    async with asyncio.timeout(BOUND_S):
        reader, writer = await opened(edge, f"/v1/jobs/{job_id}/events")
        await reader.readuntil(b"job.created")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the transport of a socket
        while edge.parts.feed.topics:  # noqa: ASYNC110 - the stream's end is seen from nowhere else
            await asyncio.sleep(0.02)
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        seen = await last_id_before_the_cut(reader)
        writer.close()
        assert seen < EVENTS
        rest = []
        async with edge.client.stream("GET", f"/v1/jobs/{job_id}/events?after={seen}") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    rest.append(int(json.loads(line.removeprefix("data: "))["id"]))
                if rest and rest[-1] == EVENTS + 1:
                    break
    assert rest == list(range(seen + 1, EVENTS + 2))


async def test_one_who_reads_slowly_but_reads_is_not(edge: Edge) -> None:
    job_id = await history(edge)
    async with asyncio.timeout(BOUND_S), edge.client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        seen = 0
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            seen += 1
            if seen % 20 == 0:
                await asyncio.sleep(PATIENCE_S / 6)  # eight times: longer in all than nothing may be read
            if seen == EVENTS + 1:
                break
    assert seen == EVENTS + 1
