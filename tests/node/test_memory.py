"""What the node itself takes of memory, beside its models."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MB = 1e6 / (1 << 20)  # in MiB


@pytest.mark.parametrize("waiting", [2000, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_a_node_takes_under_100_mb_and_so_do_ten_thousand_waiting_requests(waiting: int) -> None:
    async with asyncio.timeout(600):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.crowd", str(waiting), cwd=ROOT, stdout=PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    held = json.loads(out)
    assert held["idle_mib"] < 100 * MB + waiting * 3 / 1024  # 3 KiB for each caller, who belongs to the test
    assert held["crowded_mib"] - held["idle_mib"] < 100 * MB * waiting / 10_000
