"""/v1/organizations/{org}/budget and /usage/spending: the limits of what vendors may be paid, and what is left of them.

A limit of the organization holds for all of it, one of a key for that key's calls within it. UTC days and months.
"""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from protos.errors import InputInvalid
from router.api.context import JSON_BODY, Parts, WithParts, WithPathOrganization
from router.api.envelope import Success, success
from router.api.job_shapes import iso
from router.spending import CURRENCY, Payer, bounds_of, day_of, micro_of, month_of, usd
from router.store import budget
from router.store.budget import Balance, Budget

routes = APIRouter(prefix="/v1/organizations/{org}", tags=["usage"])

_Limit = Annotated[float | None, Field(ge=0, le=1e9, strict=True, allow_inf_nan=False)]
_KeyId = Annotated[str | None, Query(min_length=1, max_length=100, description="of one API key; default: all of them")]


class BudgetBody(BaseModel):
    """New limits. One that is left out stays as it is; null takes it away."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"monthly_limit_usd": 20}]})

    monthly_limit_usd: _Limit = None
    daily_limit_usd: _Limit = None

    def over(self, kept: Budget) -> Budget:
        """The limits that hold from now on. Raises InputInvalid when none is named."""
        if not self.model_fields_set:
            raise InputInvalid.at("monthly_limit_usd", "is missing: give it, or daily_limit_usd; null is no limit")
        given = self.model_fields_set
        return Budget(
            monthly_limit_micro=_micro(self.monthly_limit_usd)
            if "monthly_limit_usd" in given
            else kept.monthly_limit_micro,
            daily_limit_micro=_micro(self.daily_limit_usd) if "daily_limit_usd" in given else kept.daily_limit_micro,
        )


class BudgetShape(BaseModel):
    organization_id: str
    key_id: str | None
    monthly_limit_usd: float | None = Field(description="null: none")
    daily_limit_usd: float | None
    current_spend_usd: float = Field(description="of this month")
    daily_spend_usd: float = Field(description="of today")
    currency: str


class PeriodSpending(BaseModel):
    """Of one day or month. What calls that run may cost at most is reserved."""

    period: str
    starts_at: str
    ends_at: str
    spent_usd: float
    spent_micro: int = Field(description="1 USD is 1,000,000")
    reserved_usd: float
    limit_usd: float | None
    remaining_usd: float | None = Field(description="of the limit, less what is spent and reserved")


class SpendingShape(BaseModel):
    organization_id: str
    key_id: str | None
    currency: str
    current_spend_usd: float = Field(description="of this month")
    monthly_limit_usd: float | None
    month: PeriodSpending
    day: PeriodSpending


@routes.get("/budget", response_model=Success[BudgetShape])
async def get_budget(request: Request, parts: WithParts, org: WithPathOrganization, key_id: _KeyId = None) -> Response:
    return success(request, await _budget(parts, Payer(organization_id=org, key_id=key_id)))


@routes.put("/budget", response_model=Success[BudgetShape], dependencies=[JSON_BODY])
async def set_budget(
    request: Request, body: BudgetBody, parts: WithParts, org: WithPathOrganization, key_id: _KeyId = None
) -> Response:
    """Holds from the next paid call on. Calls that run keep what they have reserved."""
    payer = Payer(organization_id=org, key_id=key_id)

    def make(connection: Connection, now: float) -> None:
        budget.put(payer, body.over(budget.budget_of(connection, payer)))(connection, now)

    await parts.store.change(make)
    return success(request, await _budget(parts, payer))


@routes.get("/usage/spending", response_model=Success[SpendingShape])
async def get_spending(
    request: Request, parts: WithParts, org: WithPathOrganization, key_id: _KeyId = None
) -> Response:
    """What is spent, what is reserved, and what that leaves."""
    limits, month, day = await _standing(parts, payer := Payer(organization_id=org, key_id=key_id))
    shape = SpendingShape(
        organization_id=payer.organization_id,
        key_id=payer.key_id,
        currency=CURRENCY,
        current_spend_usd=usd(month.spent_micro),
        monthly_limit_usd=_usd(limits.monthly_limit_micro),
        month=_period(month, limits.monthly_limit_micro),
        day=_period(day, limits.daily_limit_micro),
    )
    return success(request, shape)


async def _budget(parts: Parts, payer: Payer) -> BudgetShape:
    limits, month, day = await _standing(parts, payer)
    return BudgetShape(
        organization_id=payer.organization_id,
        key_id=payer.key_id,
        monthly_limit_usd=_usd(limits.monthly_limit_micro),
        daily_limit_usd=_usd(limits.daily_limit_micro),
        current_spend_usd=usd(month.spent_micro),
        daily_spend_usd=usd(day.spent_micro),
        currency=CURRENCY,
    )


async def _standing(parts: Parts, payer: Payer) -> tuple[Budget, Balance, Balance]:
    """The limits, this month, and today."""
    now = time.time()

    def read(connection: Connection) -> tuple[Budget, Balance, Balance]:
        month, day = (budget.balance_of(connection, payer, period) for period in (month_of(now), day_of(now)))
        return budget.budget_of(connection, payer), month, day

    return await parts.store.look(read)


def _period(balance: Balance, limit_micro: int | None) -> PeriodSpending:
    start, end = bounds_of(balance.period)
    left = None if limit_micro is None else max(0, limit_micro - balance.spent_micro - balance.reserved_micro)
    return PeriodSpending(
        period=balance.period,
        starts_at=iso(start.timestamp()),
        ends_at=iso(end.timestamp()),
        spent_usd=usd(balance.spent_micro),
        spent_micro=balance.spent_micro,
        reserved_usd=usd(balance.reserved_micro),
        limit_usd=_usd(limit_micro),
        remaining_usd=_usd(left),
    )


def _usd(micro: int | None) -> float | None:
    return None if micro is None else usd(micro)


def _micro(amount_usd: float | None) -> int | None:
    return None if amount_usd is None else micro_of(amount_usd)
