"""Too little memory for all: nobody waits for it longer than the bound of occupancy.py, and loading takes a small share."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import Asking, manner, model, play

from node.memory.ledger import RELOADS, residency_s
from protos.errors import DoesNotFit

MIN_RESIDENCY_S = 10.0
STEP_S = 0.05


def bound_s(*, before: int, load_s: float, seat_s: float) -> float:
    """As the first lines of occupancy.py say; an unload takes no time here."""
    return MIN_RESIDENCY_S + (before + 1) * (load_s + residency_s(load_s, MIN_RESIDENCY_S) + seat_s)


def task_bound_s(*, others: int, load_s: float, seat_s: float) -> float:
    """As there too: of a task that may come while its model is claimed."""
    return bound_s(before=others, load_s=load_s, seat_s=seat_s) + others * seat_s


@settings(max_examples=10, deadline=None)
@given(
    load_s=st.floats(0.1, 12.0),
    clients=st.integers(1, 20),
    steps=st.integers(5, 400),
    comes_s=st.floats(0.0, 30.0),
)
def test_saturating_traffic_keeps_no_other_model_waiting_beyond_the_bound(
    load_s: float, clients: int, steps: int, comes_s: float
) -> None:
    async def scene(asking: Asking) -> None:
        traffic = asyncio.create_task(asking.keep_asking("hot", clients, steps))
        await asyncio.sleep(comes_s)
        waited_s = await asking.ask("cold")
        traffic.cancel()
        with suppress(asyncio.CancelledError):
            await traffic
        # A seat is held for its steps, and one may begin them when the claim comes.
        assert waited_s <= bound_s(before=0, load_s=load_s, seat_s=(steps + 1) * STEP_S) + load_s + STEP_S

    how = manner(load_s=load_s, step_s=STEP_S)
    asking = play([(model("hot"), how), (model("cold"), how)], scene)
    assert len(asking.waits_s["cold"]) == 1


@settings(max_examples=6, deadline=None)
@given(
    sizes=st.lists(st.floats(0.2, 1.0), min_size=3, max_size=4),
    load_s=st.floats(0.1, 10.0),
    steps=st.integers(5, 100),
    clients=st.integers(1, 12),
)
def test_no_model_of_several_that_all_have_traffic_waits_beyond_the_bound(
    sizes: list[float], load_s: float, steps: int, clients: int
) -> None:
    async def scene(asking: Asking) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(150.0), asyncio.TaskGroup() as group:
                for index in range(len(sizes)):
                    group.create_task(asking.keep_asking(f"m{index}", clients, steps))

    asking = play([(model(f"m{i}"), manner(gib=gib, load_s=load_s)) for i, gib in enumerate(sizes)], scene)
    seat_s = (steps + 1) * STEP_S * len(sizes)  # those that fit together share the device
    limit_s = task_bound_s(others=len(sizes) - 1, load_s=load_s, seat_s=seat_s)
    seats_s = seat_s * (clients // 4 + 1)  # once it has its memory, and has loaded, for a seat of its own model
    for waits_s in asking.waits_s.values():
        assert max(waits_s) <= limit_s + load_s + seats_s


@pytest.mark.parametrize("load_s", [0.5, 10.0, 30.0])
@pytest.mark.parametrize("gap_s", [0.5, 5.0])
def test_two_models_that_alternate_load_a_small_share_of_the_time(load_s: float, gap_s: float) -> None:
    asked_s = 400.0

    async def scene(asking: Asking) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(int(asked_s / gap_s)):
                group.create_task(asking.ask("ab"[number % 2]))
                await asyncio.sleep(gap_s)

    how = manner(load_s=load_s)
    asking = play([(model("a"), how), (model("b"), how)], scene)
    whole_s = asked_s + max(asking.ends_s)
    loads = sum(asking.node.loads.values())
    assert loads * load_s <= whole_s / (1 + RELOADS) + 2 * load_s
    assert loads <= whole_s / MIN_RESIDENCY_S + 2
    assert len(asking.ends_s) == int(asked_s / gap_s)


def test_a_pinned_model_stays_and_what_cannot_fit_beside_it_is_refused_at_once() -> None:
    async def scene(asking: Asking) -> None:
        await asking.ask("kept")
        await asyncio.sleep(100.0)
        with pytest.raises(DoesNotFit, match=r"of which pinned models hold 600\.0 MiB"):
            await asking.ask("large")
        await asking.ask("small")
        assert asking.node.loads == {"kept": 1, "large": 0, "small": 1}

    kept = (model("kept", pin=True), manner(gib=600 / 1024))
    play([kept, (model("large"), manner(gib=0.9)), (model("small"), manner(gib=0.2))], scene)


def test_the_model_that_is_asked_for_more_often_stays() -> None:
    async def scene(asking: Asking) -> None:
        for _ in range(10):
            await asking.ask("often")
        await asking.ask("once")
        await asyncio.sleep(60.0)
        await asking.ask("new")
        assert asking.node.loads == {"often": 1, "once": 1, "new": 1}
        await asking.ask("often")
        assert asking.node.loads["often"] == 1

    play([(model(name), manner(gib=0.5)) for name in ("often", "once", "new")], scene)


def test_what_was_popular_long_ago_is_worth_less_than_what_is_asked_for_now() -> None:
    async def scene(asking: Asking) -> None:
        for _ in range(50):
            await asking.ask("past")
        await asyncio.sleep(3600.0)
        for _ in range(3):
            await asking.ask("present")
        await asyncio.sleep(60.0)
        await asking.ask("new")
        await asking.ask("present")
        assert asking.node.loads == {"past": 1, "present": 1, "new": 1}

    play([(model(name), manner(gib=0.5)) for name in ("past", "present", "new")], scene)


def test_a_large_model_is_not_starved_by_small_ones_that_always_fit() -> None:
    async def scene(asking: Asking) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(120.0), asyncio.TaskGroup() as group:
                for name in ("s1", "s2", "s3"):
                    group.create_task(asking.keep_asking(name, 4))
                await asyncio.sleep(5.0)
                group.create_task(asking.keep_asking("large", 1))
        assert asking.waits_s["large"]
        assert max(asking.waits_s["large"]) <= bound_s(before=2, load_s=2.0, seat_s=2.0) + 2.0

    small = manner(gib=0.4)
    play([*((model(name), small) for name in ("s1", "s2", "s3")), (model("large"), manner(gib=1.0))], scene)


def test_a_lone_request_takes_its_seat_at_once_and_nothing_waits_for_company() -> None:
    async def scene(asking: Asking) -> None:
        await asking.ask("m")
        for _ in range(5):
            await asyncio.sleep(3.0)
            assert await asking.ask("m", steps=4) == 0.0
            assert asking.ends_s[-1] == pytest.approx(4 * STEP_S)

    play([(model("m"), manner(step_s=STEP_S))], scene)
