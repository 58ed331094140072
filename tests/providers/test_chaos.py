"""Hundreds of calls at vendors that fail at random: each ends once, none is paid twice, and our sums are their books."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vendors.book import Book, Tariff
from vendors.faults import Cut, Ends, FailsWithin, Fault, Garbage, Plan, Status
from vendors.places import openai_place

from protos.errors import FabricError
from protos.types import EmbeddingRequest, Finished, ModelId, Task, TaskId, TaskRequest, TextRequest
from providers.base import Provider
from providers.catalog import load_catalog
from providers.pricing import cost_micro
from providers.wrappers import Breaking, Limited, Metered, Retrying, Timed, Wrapped
from providers.wrappers.breaking import BreakerPolicy

CALLS = 300
AT_ONCE = 24
BOUND_S = 110.0
TARIFFS = {
    "gpt-4o-mini": Tariff(input_micro=150_000, cached_micro=75_000, output_micro=600_000),
    "text-embedding-3-small": Tariff(input_micro=20_000),
}
FAULTS: Sequence[Fault | None] = (
    None, None, None, None, None, None,
    Status(429, "rate_limit_exceeded", headers={"retry-after": "0.5"}), Status(429, "insufficient_quota"),
    Status(500), Status(503), Status(529), Status(400), Status(408), Cut(0), Cut(3), Ends(2), Garbage("{no", 2),
    FailsWithin("server_error", "it broke", 3),
)  # fmt: skip


@dataclass
class Sums:
    """What our side saw."""

    cost_micro: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    maybe_paid: set[str] = field(default_factory=set)


def at_random(seed: int) -> Plan:
    """Deals every fault of the list once in each len(FAULTS) requests, in an order that changes."""
    source = random.Random(seed)
    dealt = itertools.chain.from_iterable(source.sample(FAULTS, len(FAULTS)) for _ in itertools.count())
    return lambda: next(dealt)


def moved_by_reading() -> Callable[[], float]:
    """A clock that goes on by a millisecond whenever it is read: how many calls an open breaker keeps from the vendor
    is no matter of the machine's speed."""
    readings = itertools.count()
    return lambda: next(readings) / 1000


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


async def call(provider: Provider, number: int, sums: Sums) -> None:
    request: TaskRequest = TextRequest(prompt=f"call {number} says a few words")
    model = ModelId("gpt-4o-mini")
    if number % 3 == 0:
        request, model = EmbeddingRequest(texts=(f"text {number}", "another")), ModelId("text-embedding-3-small")
    task = Task(id=TaskId(f"task-{number}"), request=request, model=model)
    try:
        events = [event async for event in provider.run(task)]
    except FabricError as error:
        sums.ends[task.id] += 1
        if error.may_have_run:
            sums.maybe_paid.add(task.id)
        return
    sums.ends[task.id] += 1
    finish = events[-1]
    assert isinstance(finish, Finished)
    known = load_catalog().find(provider.id, model)
    assert known
    assert known.price
    sums.cost_micro += cost_micro(finish.usage, known.price)


async def test_every_call_ends_once_and_the_books_agree() -> None:
    async with openai_place(tuple(TARIFFS)) as place, asyncio.timeout(BOUND_S):
        place.vendor.plan, place.vendor.book, place.vendor.cached_tokens = at_random(6), Book(TARIFFS), 2
        layers = [
            Retrying(sleep=at_once),
            Breaking(policy=BreakerPolicy(failures=4, open_s=0.01, open_max_s=0.02), clock=moved_by_reading()),
            Limited(8, waiting_limit=AT_ONCE),
            Metered(),
            Timed(),
        ]
        provider, sums = Wrapped(place.provider, layers), Sums()
        for start in range(0, CALLS, AT_ONCE):
            await asyncio.gather(*(call(provider, start + n, sums) for n in range(AT_ONCE)))
    book = place.vendor.book
    paid = Counter(entry.idempotency_key for entry in book.entries)
    assert set(sums.ends.values()) == {1}
    assert max(paid.values()) == 1  # no task was accepted twice
    assert sums.cost_micro == book.told_micro() > 0
    assert {entry.idempotency_key for entry in book.entries if not entry.is_told} <= sums.maybe_paid
    assert {429, 500, 503, 529, 400, 408} <= set(book.refused)
    assert provider.snapshot().offers[0].running == 0
