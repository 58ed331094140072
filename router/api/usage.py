"""/v1/organizations/{org}/usage: what an organization's work used and cost, as sums, by day, and call by call.

A call is one attempt of a job at one place, or a direct request. Not about limits (budget.py).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from protos.errors import InputInvalid
from protos.types import Modality, OrganizationId
from router.api.context import WithParts, WithPathOrganization
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.spending import CURRENCY, Outcome, bounds_of, month_of, usd
from router.store import usage
from router.store.usage import Record, Sums

routes = APIRouter(prefix="/v1/organizations/{org}/usage", tags=["usage"])


class Counts(BaseModel):
    """What was used. Cached tokens are part of the input, reasoning tokens of the output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    images: int
    audio_seconds: float
    device_seconds: float
    cost_usd: float
    cost_micro: int = Field(description="1 USD is 1,000,000")


class Totals(Counts):
    runs: int = Field(description="calls, of whatever end")
    completed: int


class PlaceTotals(Totals):
    provider_id: str
    model: str
    modality: Modality


class DayTotals(Totals):
    date: str


class UsageSummary(Totals):
    organization_id: str
    total_runs: int
    total_cost_usd: float
    currency: str
    period_start: str
    period_end: str
    by_model: list[PlaceTotals]


class UsageRecord(Counts):
    """One call, as it was booked."""

    id: int
    attempt_id: str
    key_id: str | None
    job_id: str | None = Field(description="null for a direct call")
    provider_id: str
    model: str
    modality: Modality
    outcome: Outcome
    error_code: str | None
    estimated_cost_usd: float
    is_exact: bool = Field(description="false: the vendor gave no usage, the cost is the most that it can be")
    currency: str
    eta_s: float | None = Field(description="how long it was expected to take, when it was sent")
    took_s: float
    created_at: str

    @classmethod
    def of(cls, record: Record) -> "UsageRecord":
        return cls(
            **_fields(record, "id", "attempt_id", "key_id", "job_id", "provider_id", "model", "modality", "outcome"),
            **_fields(record, "error_code", "cost_micro", "is_exact", "eta_s", "took_s"),
            **{name: getattr(record.usage, name) for name in Counts.model_fields if hasattr(record.usage, name)},
            cost_usd=usd(record.cost_micro),
            estimated_cost_usd=usd(record.estimated_cost_micro),
            currency=CURRENCY,
            created_at=iso(record.at),
        )


def _fields(record: Record, *names: str) -> dict[str, Any]:  # Any: the fields differ in type
    return {name: getattr(record, name) for name in names}


# ---- which days ----


class Days(BaseModel):
    first: str
    last: str


async def _days(
    since: Annotated[date | None, Query(description="first UTC day; default: the month's")] = None,
    until: Annotated[date | None, Query(description="last UTC day; default: the month's")] = None,
) -> Days:
    start, end = bounds_of(month_of((datetime.now(UTC)).timestamp()))
    days = Days(first=str(since or start.date()), last=str(until or date.fromordinal(end.toordinal() - 1)))
    if days.last < days.first:
        raise InputInvalid.at("until", f"is {days.last}, before {days.first}: give the last day, at or after `since`")
    return days


WithDays = Annotated[Days, Depends(_days)]


@routes.get("", response_model=Success[UsageSummary])
async def get_usage(request: Request, parts: WithParts, org: WithPathOrganization, days: WithDays) -> Response:
    """Sums over the days, by default of this month."""
    places = await parts.store.look(lambda connection: usage.by_place(connection, org, days.first, days.last))
    return success(request, _summary(org, days, [PlaceTotals(**_shown(sums)) for sums in places]))


@routes.get("/daily", response_model=Success[list[DayTotals]])
async def get_daily_usage(request: Request, parts: WithParts, org: WithPathOrganization, days: WithDays) -> Response:
    """The sums of each UTC day with a call, newest first."""
    found = await parts.store.look(lambda connection: usage.by_day(connection, org, days.first, days.last))
    return success(request, [DayTotals(date=sums["day"], **_shown(sums)) for sums in found])


@routes.get("/records", response_model=Success[list[UsageRecord]])
async def get_usage_records(
    request: Request,
    parts: WithParts,
    org: WithPathOrganization,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="id of the last record of the page before")] = None,
) -> Response:
    """Every call, newest first."""
    found = await parts.store.look(lambda connection: usage.listed(connection, org, before=before, limit=limit))
    return success(request, [UsageRecord.of(record) for record in found])


def _summary(org: OrganizationId, days: Days, places: list[PlaceTotals]) -> UsageSummary:
    totals = {name: sum(getattr(place, name) for place in places) for name in Totals.model_fields}
    end = datetime.combine(date.fromisoformat(days.last), datetime.max.time(), UTC)
    return UsageSummary(
        **totals | {"cost_usd": usd(totals["cost_micro"])},
        organization_id=org,
        total_runs=totals["runs"],
        total_cost_usd=usd(totals["cost_micro"]),
        currency=CURRENCY,
        period_start=f"{days.first}T00:00:00.000Z",
        period_end=iso(end.timestamp()),
        by_model=places,
    )


def _shown(sums: Mapping[str, Any]) -> Sums:  # Any: as Sums
    """Sums by their names on the wire."""
    left = {name: value for name, value in sums.items() if name not in ("day", "attempts")}
    return left | {"runs": sums["attempts"], "cost_usd": usd(sums["cost_micro"])}
