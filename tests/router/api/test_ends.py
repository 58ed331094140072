"""What a router still owes when it ends."""

import asyncio
from pathlib import Path

from edge import answering

from protos.types import DEFAULT_ORGANIZATION
from router.settings import RouterSettings
from router.store import usage
from router.store.sql import SqlStore

CALLS = 50
ECHO = {"modality": "text", "model": "echo", "input": {"prompt": "one two three"}}


async def test_what_direct_calls_used_is_on_disk_when_the_router_has_ended(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, grpc_port=0, data_dir=tmp_path, nodes=())
    async with answering(settings) as edge:  # each is recorded behind its answer, and the last answer ends the router
        answers = await asyncio.gather(
            *(edge.client.post("/v1/providers/execute", json=ECHO, timeout=60) for _ in range(CALLS))
        )
    assert {answer.status_code for answer in answers} == {200}
    store = SqlStore(settings.database_url, lambda _: None)
    await store.open()
    records = await store.look(lambda found: usage.listed(found, DEFAULT_ORGANIZATION, before=None, limit=CALLS + 1))
    await store.close()
    assert sum(record.usage.input_tokens for record in records) == 3 * CALLS
    assert len(records) == CALLS
