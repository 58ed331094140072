"""What the node itself takes of memory, beside its models."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAITING = 10_000


async def test_the_node_and_ten_thousand_waiting_requests_take_under_100_mb_each() -> None:
    async with asyncio.timeout(110):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.crowd", str(WAITING), cwd=ROOT, stdout=PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    held = json.loads(out)
    assert held["idle_mib"] < 100e6 / (1 << 20)
    assert held["crowded_mib"] - held["idle_mib"] < 100e6 / (1 << 20)
