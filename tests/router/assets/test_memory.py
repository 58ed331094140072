"""Who may have how many bytes of files in memory."""

import asyncio

import pytest

from router.assets.memory import MemoryBudget


async def holding(budget: MemoryBudget, size_bytes: int, entered: asyncio.Queue[int], end: asyncio.Event) -> None:
    async with budget.take(size_bytes):
        entered.put_nowait(size_bytes)
        await end.wait()


async def test_small_ones_do_not_pass_a_large_one() -> None:
    budget, entered, end = MemoryBudget(10), asyncio.Queue[int](), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for size_bytes in (6, 8, 1, 1):
            tasks.create_task(holding(budget, size_bytes, entered, end))
        assert await entered.get() == 6
        await asyncio.sleep(0)
        assert entered.empty()  # the 8 waits for the 6, the 1s for the 8
        end.set()
        assert [await entered.get() for _ in range(3)] == [8, 1, 1]


async def test_what_is_larger_than_all_gets_in_alone() -> None:
    budget, entered, end = MemoryBudget(10), asyncio.Queue[int](), asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(holding(budget, 1000, entered, end))
        tasks.create_task(holding(budget, 1, entered, end))
        assert await entered.get() == 1000
        assert entered.empty()
        end.set()
        assert await entered.get() == 1


async def test_who_fails_or_stops_waiting_gives_back_what_it_held() -> None:
    budget, entered, end = MemoryBudget(10), asyncio.Queue[int](), asyncio.Event()

    async def fail() -> None:
        async with budget.take(10):
            waiting = asyncio.create_task(holding(budget, 5, entered, end))
            await asyncio.sleep(0)
            waiting.cancel()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await fail()
    async with asyncio.timeout(60), budget.take(10):
        assert entered.empty()
