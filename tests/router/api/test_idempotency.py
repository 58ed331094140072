"""A thousand copies of one request at once make one job."""

import asyncio
import re
from collections import Counter
from itertools import chain
from typing import Final

import httpx
import pytest
from edge import BOUND_S, Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONNECTIONS: Final = 250  # each has two files here; systems that allow a process 1024 of them are common
IN_A_ROW: Final = 4  # requests of a connection, sent without waiting for answers
BODY: Final = {"modality": "text", "model": "echo", "input": {"prompt": "once"}}
_HEAD: Final = (
    "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: {then}\r\n"
    "Idempotency-Key: the-one\r\nContent-Length: {length}\r\n\r\n"
)
_ANSWER: Final = re.compile(rb"HTTP/1\.1 (\d+) .*?location: (\S+)", re.DOTALL | re.IGNORECASE)


def _request(body: bytes, then: str) -> bytes:
    return _HEAD.format(length=len(body), then=then).encode() + body


async def sent(edge: Edge, body: bytes, everybody: asyncio.Barrier) -> list[tuple[int, str]]:
    """The status and the job's address of each request of one connection. Plain sockets: so many of a client's would
    take its time, not the router's."""
    host, port = edge.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await everybody.wait()
    writer.write(_request(body, "keep-alive") * (IN_A_ROW - 1) + _request(body, "close"))
    answers = _ANSWER.findall(await reader.read())
    writer.close()
    return [(int(status), location.decode()) for status, location in answers]


async def test_a_thousand_duplicates_at_once_make_one_job(own_edge: Edge) -> None:
    body = httpx.Request("POST", own_edge.url, json=BODY).content
    everybody = asyncio.Barrier(CONNECTIONS)
    async with asyncio.timeout(3 * BOUND_S):
        of_connections = await asyncio.gather(*(sent(own_edge, body, everybody) for _ in range(CONNECTIONS)))
    answers = list(chain.from_iterable(of_connections))
    assert Counter(status for status, _ in answers) == {202: 1, 200: CONNECTIONS * IN_A_ROW - 1}
    (location,) = {location for _, location in answers}
    jobs = (await own_edge.client.get("/v1/jobs")).json()["data"]["jobs"]
    assert [f"/v1/jobs/{job['id']}" for job in jobs] == [location]


async def test_the_same_key_with_another_payload_is_422(own_edge: Edge) -> None:
    headers = {"idempotency-key": "the-one"}
    await own_edge.client.post("/v1/jobs", json=BODY, headers=headers)
    other = await own_edge.client.post("/v1/jobs", json=BODY | {"priority": 51}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
