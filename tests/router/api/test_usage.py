"""What an organization used, what it cost, and its budgets: as the official client and curl see them."""

import asyncio
import time

import fabric_platform
import pytest
from edge import BOUND_S, Edge
from fabric_platform.models import OrgBudget, OrgUsageSummary
from paid import an_attempt, spent

from protos.types import OrganizationId, ProviderId, Usage
from router.spending import Payer, day_of
from router.store import budget, usage

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"modality": "text", "input": {"prompt": "one two three"}}


def of(organization: str, path: str) -> str:
    return f"/v1/organizations/{organization}/{path}"


async def data(edge: Edge, path: str) -> dict:  # type: ignore[type-arg]  # decoded JSON
    answer = await edge.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]  # type: ignore[no-any-return]


async def test_the_official_client_reads_usage_and_sets_a_budget(edge: Edge) -> None:
    organization = OrganizationId("org-client")
    began_on = day_of(time.time())
    used = Usage(input_tokens=10, output_tokens=20)
    await edge.parts.store.change(
        usage.booked([spent(an_attempt(organization), 1_250_000, usage=used), spent(an_attempt(organization))])
    )

    def talk() -> tuple[object, ...]:
        with fabric_platform.FabricClient(base_url=edge.url, organization_id=organization) as fabric:
            its = fabric.organizations
            its.set_budget(monthly_limit_usd=20.5)
            return its.usage(), its.usage_daily(), its.usage_records(), its.spending(), its.get_budget()

    found = await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S)
    summary, (day,), records, spending, limits = found  # type: ignore[misc]  # decoded JSON
    read = OrgUsageSummary(**summary)
    assert (read.organization_id, read.total_runs, read.total_cost_usd) == (organization, 2, 1.25)
    assert day["date"] in {began_on, day_of(time.time())}
    assert (day["runs"], day["cost_micro"]) == (2, 1_250_000)
    assert [(record["cost_micro"], record["output_tokens"]) for record in records] == [(0, 0), (1_250_000, 20)]
    assert (spending["current_spend_usd"], spending["month"]["remaining_usd"]) == (1.25, 19.25)
    held = OrgBudget(**limits)
    assert (held.organization_id, held.monthly_limit_usd, held.current_spend_usd) == (organization, 20.5, 1.25)


async def test_a_job_and_a_direct_call_are_recorded_with_what_was_expected(box: Edge) -> None:
    organization = box.client.headers["x-organization-id"]
    created = (await box.client.post("/v1/jobs", json=TEXT)).json()["data"]
    await box.ended(created["id"])
    job = await data(box, f"/v1/jobs/{created['id']}/usage")
    assert (job["output_tokens"], job["cost_micro"], job["estimated_cost_usd"]) == (3, 0, 0)
    assert [(each["provider_id"], each["outcome"]) for each in job["attempts"]] == [("node", "completed")]
    assert job["took_s"] > 0

    executed = await box.client.post("/v1/providers/execute", json=TEXT)
    assert executed.status_code == 200
    records = (
        await box.until(of(organization, "usage/records"), lambda answer: len(answer.json()["data"]) == 2)
    ).json()["data"]
    assert [record["job_id"] for record in records] == [None, created["id"]]
    assert all((record["model"], record["output_tokens"]) == ("fake-text", 3) for record in records)
    [place] = (await data(box, of(organization, "usage")))["by_model"]
    assert (place["provider_id"], place["model"], place["runs"], place["output_tokens"]) == ("node", "fake-text", 2, 6)


async def test_one_organization_never_sees_another_s(edge: Edge) -> None:
    await edge.parts.store.change(usage.booked([spent(an_attempt("org-rich"), 5)]))
    for path in ("usage", "usage/daily", "usage/records", "usage/spending", "budget"):
        shown = str(await data(edge, of("org-poor", path)))
        assert "org-rich" not in shown
        assert "vendor" not in shown


async def test_limits_of_a_key_stand_beside_the_organization_s_and_each_can_be_taken_away(edge: Edge) -> None:
    path = of("org-limits", "budget")
    for query, body in (
        ("", {"monthly_limit_usd": 10}),
        ("?key_id=key-1", {"monthly_limit_usd": 3, "daily_limit_usd": 0.5}),
        ("?key_id=key-1", {"daily_limit_usd": None}),
    ):
        assert (await edge.client.put(path + query, json=body)).status_code == 200
    whole, key = await data(edge, path), await data(edge, f"{path}?key_id=key-1")
    assert (whole["monthly_limit_usd"], whole["daily_limit_usd"], whole["key_id"]) == (10, None, None)
    assert (key["monthly_limit_usd"], key["daily_limit_usd"], key["key_id"]) == (3, None, "key-1")


async def test_what_runs_is_shown_as_reserved(edge: Edge) -> None:
    await edge.client.put(of("org-busy", "budget"), json={"daily_limit_usd": 1})
    await edge.parts.store.change(budget.reserve(an_attempt("org-busy", 400_000)))
    day = (await data(edge, of("org-busy", "usage/spending")))["day"]
    assert (day["reserved_usd"], day["spent_usd"], day["remaining_usd"]) == (0.4, 0, 0.6)
    balance = await edge.parts.store.look(
        lambda connection: budget.balance_of(
            connection, Payer(organization_id=OrganizationId("org-busy")), day["period"]
        )
    )
    assert balance.reserved_micro == 400_000


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "monthly_limit_usd"),
        ({"monthly_limit_usd": -1}, "monthly_limit_usd"),
        ({"monthly_limit_usd": "20"}, "monthly_limit_usd"),
        ({"daily_limit_usd": 1e300}, "daily_limit_usd"),
        ({"yearly_limit_usd": 1}, "yearly_limit_usd"),
    ],
)
async def test_a_bad_budget_is_refused_and_named(edge: Edge, body: dict[str, object], path: str) -> None:
    refused = await edge.client.put(of("org-bad", "budget"), json=body)
    assert refused.status_code == 400
    assert [each["path"] for each in refused.json()["error"]["details"]["errors"]] == [path]


async def test_records_page_and_days_can_be_chosen(edge: Edge) -> None:
    organization = "org-pages"
    await edge.parts.store.change(usage.booked([spent(an_attempt(organization), n) for n in range(5)]))
    first = await data(edge, of(organization, "usage/records?limit=2"))
    rest = await data(edge, of(organization, f"usage/records?before={first[-1]['id']}"))  # type: ignore[index]
    assert [record["cost_micro"] for record in (*first, *rest)] == [4, 3, 2, 1, 0]  # type: ignore[index]
    assert (await data(edge, of(organization, "usage?since=2000-01-01&until=2000-01-02")))["total_runs"] == 0
    refused = await edge.client.get(of(organization, "usage?since=2026-02-01&until=2026-01-01"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "input_validation_failed")


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o-mini"])
async def test_a_vendor_s_model_has_a_price_where_the_vendor_is_not_switched_on(edge: Edge, model: str) -> None:
    body = {
        "modality": "text",
        "model": model,
        "input": {"prompt": "Generate a summary"},
        "params": {"max_tokens": 100},
    }
    answer = await edge.client.post("/v1/providers/estimate", json=body)
    assert answer.status_code == 200
    estimate = answer.json()["data"]
    assert (estimate["provider_id"], estimate["tier"], estimate["available"]) == (
        ProviderId("openai"),
        "premium",
        False,
    )
    assert estimate["max_cost_micro"] >= estimate["cost_micro"] > 0
    assert estimate["estimated_cost_usd"] == estimate["cost_micro"] / 1_000_000
    assert estimate["source"].startswith("https://")
    assert estimate["usage"]["output_tokens"] == 100


async def test_a_model_that_nobody_knows_has_no_estimate(edge: Edge) -> None:
    body = {"modality": "text", "model": "gpt-99", "input": {"prompt": "x"}}
    answer = await edge.client.post("/v1/providers/estimate", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
