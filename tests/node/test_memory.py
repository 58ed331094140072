"""What the node itself takes of memory, beside its models."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAITING = 10_000
MB = 1e6 / (1 << 20)  # in MiB


async def test_a_node_takes_under_100_mb_and_so_do_ten_thousand_waiting_requests() -> None:
    async with asyncio.timeout(240):  # when each arrival looked at all who wait, ten thousand took minutes
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.crowd", str(WAITING), cwd=ROOT, stdout=PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    held = json.loads(out)
    assert held["idle_mib"] < 100 * MB + WAITING * 3 / 1024  # 3 KiB for each caller, who belongs to the test
    assert held["crowded_mib"] - held["idle_mib"] < 100 * MB
