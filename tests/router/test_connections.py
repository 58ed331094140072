"""What an HTTP connection does when nobody asks anything."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from edge import BOUND_S, answering

from router.settings import RouterSettings

IDLE_S = 6.0  # httpx, the client that most use, keeps an idle connection for 5 s


@pytest.mark.long
async def test_a_connection_that_was_idle_for_as_long_as_clients_keep_theirs_is_answered(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, grpc_port=0, data_dir=tmp_path, nodes=())
    async with answering(settings) as edge, asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(edge.url).port)
        for pause_s in (0.0, IDLE_S):
            await asyncio.sleep(pause_s)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
