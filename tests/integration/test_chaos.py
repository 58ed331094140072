"""Thousands of durable jobs over five places that fail, hang, limit and lie at random: each ends once, is paid at most
once, and what the router has booked is what the other sides have charged, to the microdollar."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from edge import Edge, answering
from vendors.anthropic_app import AnthropicStandIn
from vendors.book import Book, Entry, Tariff
from vendors.faults import Cut, Ends, FailsWithin, Fault, Garbage, Hang, Stall, Status
from vendors.ollama_app import Model, OllamaStandIn
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from protos.types import ProviderId
from providers.settings import CompatibleServer, DeclaredModel, ProviderSettings
from router.jobs import TERMINAL, JobId, JobState
from router.settings import RouterSettings
from router.store import usage
from router.store.usage import Record

# Made once at the import: what it loads first takes seconds, which no bound of the test has to hold.
_LOADED = openai.AsyncOpenAI(api_key="-")

BOUND_S = 900.0  # on the whole of it
RICH, POOR = "org-rich", "org-poor"
POOR_MICRO = 9_000  # its budget: about a third of what its jobs would cost
OUT, FAILURES, OPEN_S = "groq", 5, 10.0  # the place that goes out, and how the breakers are stated
UNDER_WAY_S = 1.0  # in which what was sent before the opening has come: of the clock, and of this process's own time
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "groq": "fast-8b", "together": "wide-70b"}
TARIFFS = {
    "gpt-6-luna": Tariff(input_micro=100_000, cached_micro=10_000, output_micro=500_000),
    "gpt-4o-mini": Tariff(input_micro=150_000, cached_micro=75_000, output_micro=600_000),
    "claude-haiku-4-5": Tariff(input_micro=1_000_000, cached_micro=100_000, output_micro=5_000_000),
    "fast-8b": Tariff(input_micro=50_000, cached_micro=50_000, output_micro=80_000),
    "wide-70b": Tariff(input_micro=880_000, cached_micro=880_000, output_micro=880_000),
}
PRICES = "version = 1\n" + "".join(
    f"""
[[model]]
vendor = "{vendor}"
id = "{MODELS[vendor]}"
modality = "text"
context_tokens = 100_000
input_micro = {TARIFFS[MODELS[vendor]].input_micro}
output_micro = {TARIFFS[MODELS[vendor]].output_micro}
as_of = 2026-11-22
source = "this test"
"""
    for vendor in ("groq", "together")
)
ORDERS = (  # candidates of the aliases a, b, c, d
    ("gpt-4o-mini", "claude-haiku-4-5", "groq/fast-8b", "ollama/llama"),
    ("claude-haiku-4-5", "together/wide-70b", "gpt-4o-mini"),
    ("groq/fast-8b", "together/wide-70b", "ollama/llama"),
    ("ollama/llama", "gpt-4o-mini"),
)
ALIASES = "\n".join(
    f"[[alias]]\nid = {name!r}\ncandidates = {list(order)!r}\n" for name, order in zip("abcd", ORDERS, strict=True)
)
ASKED = (*"abcd", *MODELS.values(), "llama", None)  # models of the jobs


@dataclass
class Weather:
    """What the calls of one place meet, from its own seed. `hung`: those that hang until the end."""

    source: random.Random
    hung: list[asyncio.Event] = field(default_factory=list)
    came_at: list[tuple[float, float]] = field(default_factory=list)  # when each call came, and the process's own time
    outage: range = range(0)  # calls, by number, that all fail
    failures: int = 0  # of the outage
    is_calm: bool = True

    @property
    def calls(self) -> int:
        return len(self.came_at)

    def __call__(self) -> Fault | None:
        self.came_at.append((time.monotonic(), time.process_time()))
        if self.calls in self.outage:
            self.failures += 1
            return Status(503, "overloaded_error")
        if self.is_calm:
            return None
        return self._kinds()[self.source.randrange(100)]()

    def _kinds(self) -> Sequence[Callable[[], Fault | None]]:
        """A hundred, of which one is drawn."""
        rare: list[Callable[[], Fault | None]] = [
            *[lambda: Status(429, "rate_limit_exceeded", headers={"retry-after": "0.2"})] * 6,
            *[lambda: Status(500, "api_error")] * 2,
            *[lambda: Status(503, "overloaded_error")] * 5,
            *[lambda: Status(529, "overloaded_error")] * 3,
            lambda: Status(400, "invalid_request_error"),
            lambda: Status(404, "not_found_error"),
            lambda: Status(408, "timeout"),
            *[lambda: Cut(0)] * 2,
            *[lambda: Cut(2)] * 2,
            *[lambda: Ends(2)] * 2,
            *[lambda: Garbage("{no", 2)] * 2,
            *[lambda: FailsWithin("api_error", "it broke", 2)] * 2,
            *[self._slow] * 6,
            self._hangs,
            self._stalls,
        ]
        return [*rare, *[lambda: None] * (100 - len(rare))]

    def _slow(self) -> Fault:
        until = asyncio.Event()
        asyncio.get_running_loop().call_later(self.source.uniform(0.01, 0.3), until.set)
        return Hang(until)

    def _hangs(self) -> Fault:
        self.hung.append(asyncio.Event())
        return Hang(self.hung[-1])

    def _stalls(self) -> Fault:
        self.hung.append(asyncio.Event())
        return Stall(self.hung[-1], 2)


@dataclass(frozen=True)
class Town:
    """A router and five places around it."""

    edge: Edge
    books: dict[str, Book]
    weathers: dict[str, Weather]

    def let_loose(self) -> None:
        """From here on what was asked before counts in no book; one place is out from its 20th call, until its breaker
        was seen to open."""
        for book in self.books.values():
            book.entries.clear()
        for weather in self.weathers.values():
            weather.is_calm = False
        self.weathers[OUT].failures = 0
        self.weathers[OUT].outage = range(self.weathers[OUT].calls + 20, 10**9)

    async def records(self, job_id: str) -> Sequence[Record]:
        return await self.edge.parts.store.look(lambda connection: usage.of_job(connection, job_id))


@asynccontextmanager
async def town(folder: Path, seed: int) -> AsyncIterator[Town]:
    weathers = {name: Weather(random.Random(f"{seed} {name}")) for name in (*MODELS, "ollama")}
    books = {name: Book(TARIFFS) for name in MODELS}
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(serving(app))
            for name, app in {
                "openai": OpenAIStandIn(plan=weathers["openai"], book=books["openai"]).app(),
                "anthropic": AnthropicStandIn(plan=weathers["anthropic"], book=books["anthropic"]).app(),
                "groq": OpenAIStandIn(plan=weathers["groq"], book=books["groq"]).app(),
                "together": OpenAIStandIn(plan=weathers["together"], book=books["together"]).app(),
                "ollama": OllamaStandIn({"llama": Model()}, plan=weathers["ollama"]).app(),
            }.items()
        }
        edge = await stack.enter_async_context(answering(_settings(folder, urls)))
        await edge.until("/v1/providers", lambda answer: "llama" in answer.text)
        try:
            yield Town(edge, books, weathers)
        finally:
            for weather in weathers.values():
                for event in weather.hung:
                    event.set()


def _settings(folder: Path, urls: dict[str, str]) -> RouterSettings:
    (folder / "models.toml").write_text(ALIASES.replace("'", '"'))
    (folder / "prices.toml").write_text(PRICES)
    declared = {name: (DeclaredModel(MODELS[name], "text"),) for name in ("groq", "together")}  # type: ignore[arg-type]
    vendors = ProviderSettings(
        openai_api_key="sk-standin-openai",
        openai_base_url=f"{urls['openai']}/v1",
        anthropic_api_key="sk-standin-anthropic",
        anthropic_base_url=urls["anthropic"],
        compatible=tuple(CompatibleServer(name=n, url=f"{urls[n]}/v1", models=m) for n, m in declared.items()),
        ollama_url=urls["ollama"],
        prices=folder / "prices.toml",
    )
    models = folder / "models.toml"
    return RouterSettings(port=0, grpc_port=0, data_dir=folder, nodes=(), models=models, vendors=vendors)


# ---- the jobs ----


@dataclass
class Orders:
    """What was asked: the words of each prompt tell a job apart in the books."""

    jobs: dict[str, int] = field(default_factory=dict)  # job id -> words of its prompt
    organizations: dict[str, str] = field(default_factory=dict)  # job id -> whose


async def submit(it: Town, count: int, source: random.Random) -> Orders:
    orders, gate = Orders(), asyncio.Semaphore(16)

    async def one(number: int) -> None:
        words, organization = 10 + number, POOR if number % 5 == 0 else RICH
        body: dict[str, object] = {
            "modality": "text",
            "input": {"prompt": " ".join(["w"] * words)},
            "params": {"max_tokens": 6},
            "organization_id": organization,
        }
        model = source.choice(ASKED)
        if model is not None:
            body["model"] = model
        if number % 3 == 0:
            body["timeout_s"] = 60.0
        async with gate:
            answer = await it.edge.client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["data"]["id"]
        orders.jobs[job_id], orders.organizations[job_id] = words, organization

    await asyncio.gather(*(one(number) for number in range(count)))
    return orders


@dataclass
class Watch:
    """What the breaker of the place that is out said of itself, while thousands of calls went on: until when it lets nobody
    through, of its first opening. When somebody looked says nothing of that."""

    why: str = ""  # as it was told when it opened
    until: float = 0.0
    seen_at: float = 0.0  # in the process's own time
    closed_at: float = 0.0  # or a look later


async def watch_breaker(it: Town) -> Watch:
    """Ends the outage when the breaker is open, and returns when it has closed again."""
    watch, weather = Watch(), it.weathers[OUT]
    while watch.closed_at == 0.0:
        await asyncio.sleep(0.005)  # between two looks; nothing is expected of it
        health = it.edge.parts.providers.get(ProviderId(OUT)).snapshot().health
        if health.rests_until is not None and not watch.until:
            watch.why, watch.until, weather.outage = health.reason, health.rests_until, range(0)
            watch.seen_at = time.process_time()
        if watch.until and health.rests_until is None and "is tried again" not in health.reason:
            watch.closed_at = time.monotonic()
    return watch


async def check_closing(it: Town, watching: "asyncio.Task[Watch]") -> None:
    """Where no job is left to be its trial, a caller is."""
    it.weathers[OUT].is_calm = True
    body = {"modality": "text", "model": MODELS[OUT], "input": {"prompt": "are you there"}}
    while not watching.done():
        await it.edge.client.post("/v1/providers/execute", json=body)
        await asyncio.wait({watching}, timeout=0.2)
    check_watch(it, await watching)
    health = next(p for p in (await it.edge.client.get("/v1/providers")).json()["data"] if p["id"] == OUT)["health"]
    assert "left alone" not in health["reason"]
    assert (await it.edge.client.post("/v1/providers/execute", json=body)).status_code == 200


def check_watch(it: Town, watch: Watch) -> None:
    """It opened after five failures, nobody was let through for ten seconds, and it closed."""
    assert it.weathers[OUT].failures >= FAILURES
    opened_at = watch.until - OPEN_S
    meanwhile = [
        at - opened_at
        for at, own_s in it.weathers[OUT].came_at
        if opened_at + UNDER_WAY_S < at < watch.until and own_s > watch.seen_at + UNDER_WAY_S
    ]
    assert not meanwhile, (meanwhile, watch)
    assert watch.closed_at >= watch.until, watch


async def all_ended(it: Town, orders: Orders) -> Counter[str]:
    """The ends of the jobs. Those that hang at a place, and nothing else is left to run, are cancelled by their owner."""
    left, ends, quiet, before = set(orders.jobs), Counter[str](), 0, (-1, -1)
    while left:
        await asyncio.sleep(0.5)  # between two looks; nothing is expected of it
        for job_id in sorted(left):
            job = await it.edge.parts.store.get(JobId(job_id))
            if job is not None and job.state in TERMINAL:
                left.discard(job_id)
                ends[job.state] += 1
        now = (len(left), sum(weather.calls for weather in it.weathers.values()))
        quiet, before = (quiet + 1 if now == before else 0), now
        if quiet >= 12:
            for job_id in sorted(left):
                await it.edge.parts.runner.cancel(JobId(job_id))
    return ends


# ---- what must be so ----


async def check_ends(it: Town, orders: Orders) -> None:
    for job_id in orders.jobs:
        kinds = [event.kind for event in await it.edge.parts.store.turning_points(JobId(job_id))]
        ends = [kind for kind in kinds if kind in {"job.completed", "job.failed", "job.cancelled"}]
        assert len(ends) == 1, (job_id, kinds)
        assert kinds[-1] == ends[0]


def entries_of(it: Town) -> dict[int, list[tuple[str, Entry]]]:
    """The entries of all books by the words that were read: those of one job."""
    found: dict[int, list[tuple[str, Entry]]] = defaultdict(list)
    for name, book in it.books.items():
        for entry in book.entries:
            found[entry.input_tokens].append((name, entry))
    return found


async def check_money(it: Town, orders: Orders) -> None:
    charged, booked_micro, unknown_micro = entries_of(it), 0, 0
    spent: Counter[str] = Counter()
    for job_id, words in orders.jobs.items():
        records = [each for each in await it.records(job_id) if each.cost_micro or not each.is_exact]
        accepted = charged.get(words, [])
        spent[orders.organizations[job_id]] += sum(each.cost_micro for each in records)
        assert len(accepted) <= 1, f"job {job_id} was accepted twice: {accepted}"
        assert len(records) <= 1, f"job {job_id} was booked twice: {records}"
        if records and records[0].is_exact:
            assert accepted, f"job {job_id} was booked and never accepted: {records}"
            booked_micro += records[0].cost_micro
        for name, entry in accepted:
            cost = entry.cost_micro(TARIFFS[entry.model])
            assert [each.provider_id for each in records] == [name], f"{job_id}: {entry}, {records}"
            if records[0].is_exact:
                assert records[0].cost_micro == cost
            else:  # charged, and nobody said how much: never less is booked
                assert records[0].cost_micro >= cost
                assert not entry.is_told or await was_left(it, job_id), f"{job_id}: {entry}, {records}"
                unknown_micro += cost
    assert booked_micro > 0
    assert booked_micro + unknown_micro == sum(book.told_micro() + book.untold_micro() for book in it.books.values())
    await check_budgets(it, spent)


async def was_left(it: Town, job_id: str) -> bool:
    """By us, while the other side still spoke."""
    job = await it.edge.parts.store.get(JobId(job_id))
    assert job is not None
    return job.state is JobState.CANCELLED or (job.error or {}).get("code") == "deadline_exceeded"


async def check_budgets(it: Town, spent: Counter[str]) -> None:
    for organization in (RICH, POOR):
        shown = (await it.edge.client.get(f"/v1/organizations/{organization}/usage/spending")).json()["data"]
        assert shown["month"]["spent_micro"] == spent[organization]
        assert shown["month"]["reserved_usd"] == 0
    assert 0 < spent[POOR] <= POOR_MICRO


async def check_breaker(it: Town) -> None:
    """It opens at the fifth failure in a row, lets nobody through for ten seconds, then one, and closes when that is
    well."""
    weather, book = it.weathers["groq"], it.books["groq"]
    body = {"modality": "text", "model": "fast-8b", "input": {"prompt": "are you there"}}

    async def ask() -> int:
        return (await it.edge.client.post("/v1/providers/execute", json=body)).status_code

    async def until(status: str) -> str:
        def is_so(answer: Any) -> bool:  # Any: a response
            return any(p["id"] == "groq" and p["health"]["status"] == status for p in answer.json()["data"])

        found = await it.edge.until("/v1/providers", is_so)
        return next(p["health"]["reason"] for p in found.json()["data"] if p["id"] == "groq")  # type: ignore[no-any-return]

    await until("healthy")
    assert await ask() == 200
    before, weather.outage = len(book.refused), range(weather.calls, 10**9)
    assert [await ask() for _ in range(4)] == [503] * 4
    assert len(book.refused) - before == 5
    assert "is left alone for" in await until("unavailable")
    weather.outage = range(0)
    assert "is tried again" in await until("degraded")
    accepted = len(book.entries)
    assert await ask() == 200
    assert len(book.entries) == accepted + 1
    assert "is left alone" not in str((await it.edge.client.get("/v1/providers")).json())


@pytest.mark.parametrize(
    "count", [pytest.param(320, id="short"), pytest.param(2000, id="long", marks=pytest.mark.long)]
)
@pytest.mark.timeout(BOUND_S)
async def test_every_job_ends_once_and_the_books_agree(tmp_path: Path, count: int) -> None:
    async with asyncio.timeout(BOUND_S - 60), town(tmp_path, seed=6) as it:
        await check_breaker(it)
        it.let_loose()
        limit = {"monthly_limit_usd": POOR_MICRO / 1e6}
        assert (await it.edge.client.put(f"/v1/organizations/{POOR}/budget", json=limit)).status_code == 200
        watching = asyncio.create_task(watch_breaker(it))
        orders = await submit(it, count, random.Random(7))
        ends = await all_ended(it, orders)
        assert sum(ends.values()) == count
        assert ends["completed"] > count / 3
        await check_ends(it, orders)
        await check_money(it, orders)
        await check_closing(it, watching)
        assert {429, 500, 503} <= {status for book in it.books.values() for status in book.refused}
