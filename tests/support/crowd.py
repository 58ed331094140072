"""A node of one fake engine whose gate is closed, and many callers that wait: what they take of memory. Run as a process.

python -m tests.support.crowd COUNT    prints a line of JSON: resident MiB of the idle node, and with so many waiting
"""

import asyncio
import gc
import json
import sys
import tempfile
import threading
from pathlib import Path

import psutil

from node.daemon import Daemon
from node.engine import LoadEngine
from node.engines.fake import FakeEngine, Faults
from node.settings import NodeSettings
from protos.types import OrganizationId, Queued, Task, TaskId, TextRequest

MODELS = '[[model]]\nid = "talk"\nengine = "fake"\nmodality = "text"\nseats = 1\nwaiting_limit = {limit}\npreload = true\ndefault = true\n'


def resident_mib() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / (1 << 20)


async def measured(count: int, folder: Path) -> dict[str, float]:
    gate = threading.Event()
    (folder / "models.toml").write_text(MODELS.format(limit=count + 1))
    settings = NodeSettings(listen="127.0.0.1:0", device="cpu", models_path=folder / "models.toml", data_dir=folder)

    def loader(_: str) -> LoadEngine:
        return lambda spec, _device: FakeEngine(spec, faults=Faults(gate=gate), beside_threads=1)

    async with Daemon(settings, loader) as daemon:
        await daemon.registry.loaded(daemon.registry.entries[0])
        waiting, all_wait, may_start = 0, asyncio.Event(), asyncio.Event()

        async def call(number: int) -> None:
            nonlocal waiting
            await may_start.wait()
            request = TextRequest(prompt=f"request {number}")
            task = Task(id=TaskId(f"t{number}"), request=request, organization_id=OrganizationId(f"o{number % 10}"))
            async for event in daemon.service.execute(task):
                if isinstance(event, Queued):
                    waiting += 1
                    if waiting == count:
                        all_wait.set()

        calls = [asyncio.create_task(call(number)) for number in range(count)]
        await asyncio.sleep(0)
        idle_mib = resident_mib()  # the callers are there, whose own memory is none of the node's
        may_start.set()
        await all_wait.wait()
        crowded_mib = resident_mib()
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gate.set()
    return {"idle_mib": round(idle_mib, 1), "crowded_mib": round(crowded_mib, 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data:
        sys.stdout.write(json.dumps(asyncio.run(measured(int(sys.argv[1]), Path(data)))))
