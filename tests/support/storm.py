"""A process that writes jobs as fast as it can and says which are acknowledged, until it is killed.

python storm.py jobs.db         prints "created ID", "ended ID" after each write that was acknowledged
"""

import asyncio
import sys

from scripted import LANE, a_job, claimed

from router.jobs import JobState
from router.store.base import Ending, Lease
from router.store.sql import SqlStore


async def main(path: str) -> None:
    store = SqlStore(f"sqlite:///{path}", lambda _events: None)
    await store.open()

    async def create() -> None:
        while True:
            job, _ = await store.create(a_job(), 10**6)
            print("created", job.id, flush=True)  # noqa: T201  # what this process is for

    async def end(lease: Lease) -> None:
        await store.start(lease, "p", "n", "m")
        if await store.finish(lease, Ending(state=JobState.COMPLETED, output={"text": "7"})) is not None:
            print("ended", lease.job.id, flush=True)  # noqa: T201  # as above

    async def work() -> None:
        while True:
            await asyncio.gather(*(end(lease) for lease in await claimed(store, {LANE: 8}, 60.0)))

    await asyncio.gather(*(create() for _ in range(8)), work(), work())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
