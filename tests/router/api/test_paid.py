"""A vendor's model through the whole router: whose key pays, what it cost, what is left, and that no key is ever told."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from edge import BOUND_S, Edge, answering
from vendors.book import Book, Tariff
from vendors.faults import Cut, Stall, Status, always
from vendors.openai_app import OpenAIStandIn
from vendors.serving import serving

from providers.settings import ProviderSettings
from router.settings import RouterSettings

MODEL = "gpt-4o-mini"
KEY = "sk-standin-MUST-NEVER-BE-SEEN-0123456789"
TARIFF = Tariff(input_micro=150_000, cached_micro=75_000, output_micro=600_000)  # as prices.toml has it
TEXT = {"modality": "text", "model": MODEL, "input": {"prompt": "word " * 400}, "params": {"max_tokens": 100}}
BOUND_MICRO = 362  # (400 * 5 bytes + 8) * 0.15 + 100 * 0.6, rounded up


@dataclass(frozen=True)
class Shop:
    """A router that has the vendor, and the vendor. `org`: has stored its key as a secret."""

    edge: Edge
    vendor: OpenAIStandIn
    org: str = "org-paying"

    def path(self, end: str) -> str:
        return f"/v1/organizations/{self.org}/{end}"

    async def data(self, path: str) -> dict:  # type: ignore[type-arg]  # decoded JSON
        return (await self.edge.client.get(path)).json()["data"]  # type: ignore[no-any-return]

    async def job(self, **changes: object) -> dict:  # type: ignore[type-arg]  # as above
        """A job of the organization, once it has ended."""
        body = TEXT | {"organization_id": self.org} | changes
        created = await self.edge.client.post("/v1/jobs", json=body)
        assert created.status_code == 202, created.text
        return await self.edge.ended(created.json()["data"]["id"])


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    vendor = OpenAIStandIn(key=KEY, book=Book({MODEL: TARIFF}))
    async with serving(vendor.app()) as url:
        vendors = ProviderSettings(openai_base_url=f"{url}/v1", organization_keys=True)
        settings = RouterSettings(port=0, grpc_port=0, data_dir=folder, nodes=(), vendors=vendors)
        async with answering(settings) as edge:
            found = Shop(edge, vendor)
            secret = {"name": "OPENAI_API_KEY", "value": KEY}
            assert (await edge.client.post(found.path("secrets"), json=secret)).status_code == 201
            yield found


async def test_a_job_costs_what_the_vendor_charged_and_shows_what_was_expected(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        job = await it.job()
        assert job["status"] == "completed", job["error"]
        usage = await it.data(f"/v1/jobs/{job['id']}/usage")
        spending = await it.data(it.path("usage/spending"))
        charged = it.vendor.book.told_micro()
    assert charged == 120  # 400 words in, 100 out
    assert (usage["cost_micro"], usage["cost_usd"]) == (charged, charged / 1e6)
    assert 0 < usage["estimated_cost_usd"] * 1e6 <= BOUND_MICRO
    assert (spending["month"]["spent_micro"], spending["month"]["reserved_usd"]) == (charged, 0)


async def test_only_the_organization_that_has_the_key_is_served_with_it(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        told = "openai has no key: set OPENAI_API_KEY, or store it as a secret of the organization"
        for path in ("/v1/providers/execute", "/v1/jobs"):
            refused = await it.edge.client.post(path, json=TEXT)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_provider")
            assert told in refused.json()["error"]["message"]
        assert not it.vendor.book.entries


async def test_a_route_says_which_key_is_missing(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        own = await it.edge.client.post("/v1/providers/route", params={"organization_id": it.org}, json=TEXT)
        other = await it.edge.client.post("/v1/providers/route", json=TEXT)
    assert [each["provider_id"] for each in own.json()["data"]["candidates"]] == ["openai"]
    assert other.json()["data"]["candidates"] == []
    reasons = {each["provider_id"]: each["reason"] for each in other.json()["data"]["skipped"]}
    assert reasons["openai"] == "has no key: set OPENAI_API_KEY, or store it as a secret of the organization"


async def test_an_estimate_is_available_to_the_organization_that_has_the_key(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        own = await it.edge.client.post("/v1/providers/estimate", params={"organization_id": it.org}, json=TEXT)
        other = await it.edge.client.post("/v1/providers/estimate", json=TEXT)
    assert (own.json()["data"]["available"], other.json()["data"]["available"]) == (True, False)
    assert own.json()["data"]["cost_micro"] == other.json()["data"]["cost_micro"] > 0


async def test_a_job_held_back_by_its_budget_is_explained_so(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        await it.edge.client.put(it.path("budget"), json={"monthly_limit_usd": (BOUND_MICRO + 100) / 1e6})
        never = asyncio.Event()
        it.vendor.plan = always(Stall(never))
        body = TEXT | {"organization_id": it.org}
        first, second = [(await it.edge.client.post("/v1/jobs", json=body)).json()["data"]["id"] for _ in range(2)]

        def is_held(answer: httpx.Response) -> bool:
            return answer.json()["data"]["held_by"] is not None and answer.json()["data"]["held_by"]["code"] == "budget"

        async with asyncio.timeout(BOUND_S):
            while True:
                answers = [await it.edge.client.get(f"/v1/jobs/{each}/explain") for each in (first, second)]
                if any(map(is_held, answers)):
                    break
                await asyncio.sleep(0.02)
        (held,) = filter(is_held, answers)
        looks = [await it.edge.client.get(f"/v1/jobs/{held.json()['data']['job_id']}/explain") for _ in range(30)]
        assert all(map(is_held, looks))
        assert "calls that run hold" in held.json()["data"]["summary"]
        for each in (first, second):
            await it.edge.client.post(f"/v1/jobs/{each}/cancel")
        never.set()


async def test_a_spent_budget_stops_the_next_call_before_the_vendor_hears_of_it(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        await it.edge.client.put(it.path("budget"), json={"monthly_limit_usd": (BOUND_MICRO + 119) / 1e6})
        assert (await it.job())["status"] == "completed"
        failed = await it.job()
        direct = await it.edge.client.post("/v1/providers/execute", params={"organization_id": it.org}, json=TEXT)
        calls = len(it.vendor.book.entries)
    assert failed["error"]["code"] == "quota_exceeded"  # type: ignore[index]
    assert (direct.status_code, direct.json()["error"]["code"]) == (429, "quota_exceeded")
    assert int(direct.headers["retry-after"]) > 0
    assert calls == 1


async def test_a_direct_call_is_booked_too(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        answer = await it.edge.client.post("/v1/providers/execute", params={"organization_id": it.org}, json=TEXT)
        assert answer.status_code == 200, answer.text
        found = await it.edge.until(it.path("usage"), lambda shown: shown.json()["data"]["runs"] == 1)
        assert found.json()["data"]["cost_micro"] == it.vendor.book.told_micro() == 120


async def test_a_cut_answer_counts_at_its_bound_and_is_not_asked_for_again(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        it.vendor.plan = always(Cut(0))
        job = await it.job()
        usage = await it.data(f"/v1/jobs/{job['id']}/usage")
        calls = len(it.vendor.book.entries)
    assert job["status"] == "failed"
    assert calls == 1
    assert (usage["cost_micro"], [each["is_exact"] for each in usage["attempts"]]) == (BOUND_MICRO, [False])


async def test_a_job_that_may_cost_too_much_is_refused_with_both_amounts(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        body = TEXT | {"organization_id": it.org, "max_cost_usd": 0.0001}
        refused = await it.edge.client.post("/v1/jobs", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_provider")
        assert "may cost $0.000362, the request's max_cost_usd is $0.0001" in refused.json()["error"]["message"]
        assert not it.vendor.book.entries


@pytest.mark.parametrize("fault", [None, Status(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), Cut(0)])
async def test_the_key_is_in_nothing_that_the_router_writes_logs_or_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Status | Cut | None
) -> None:
    caplog.set_level(logging.DEBUG)
    async with shop(tmp_path) as it:
        it.vendor.plan = always(fault)
        job = await it.job()
        direct = await it.edge.client.post("/v1/providers/execute", params={"organization_id": it.org}, json=TEXT)
        paths = (f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events", f"/v1/jobs/{job['id']}/explain")
        others = ("/v1/providers", it.path("usage/records"), it.path("secrets"), it.path("audit-logs"), "/metrics")
        answers = [direct, *[await it.edge.client.get(path) for path in (*paths, *others)]]
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    written += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(job["id"].encode() in content for content in written)  # type: ignore[union-attr,attr-defined]
    assert it.vendor.headers[-1]["authorization"] == f"Bearer {KEY}"  # it was used
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("vendors"))
    for content in (*written, *(answer.content for answer in answers), repr(it.edge.parts).encode(), ours.encode()):
        assert KEY.encode() not in content


async def test_a_hundred_direct_calls_at_once_stay_within_the_budget(tmp_path: Path) -> None:
    async with shop(tmp_path) as it:
        await it.edge.client.put(it.path("budget"), json={"daily_limit_usd": 0.01})

        async def call() -> int:
            answer = await it.edge.client.post(
                "/v1/providers/execute", params={"organization_id": it.org}, json=TEXT, timeout=100
            )
            return answer.status_code

        statuses = await asyncio.gather(*(call() for _ in range(100)))
        done = statuses.count(200)
        await it.edge.until(it.path("usage"), lambda shown: shown.json()["data"]["completed"] == done)
        charged = it.vendor.book.told_micro()
        spent = (await it.data(it.path("usage/spending")))["day"]["spent_micro"]
    assert set(statuses) == {200, 429}
    assert charged == spent == 120 * done
    assert spent <= 10_000
