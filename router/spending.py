"""What attempts cost, as it is counted: whole microdollars, by who pays, by day and month. Pure.

Not about prices (providers/pricing.py) nor about where the counts are kept (store/usage.py, store/budget.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Final

from protos.errors import QuotaExceeded
from protos.types import Modality, ModelId, OrganizationId, ProviderId, Usage

MICRO: Final = 1_000_000  # microdollars of one US dollar
CURRENCY: Final = "USD"


class BudgetExceeded(QuotaExceeded):
    """What is spent leaves no room in the budget for what the call may cost."""


class BudgetReserved(QuotaExceeded):
    """There is room in the budget, but calls that run now may use it up. Some is free again when they end."""

    retryable = True


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # with its router: nobody knows how


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Whose budgets an attempt counts against."""

    organization_id: OrganizationId
    key_id: str | None = None  # None: no key of an organization


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What an attempt at one place should cost, and the most that it can."""

    estimated_micro: int = 0
    bound_micro: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """One call of one place, before it is made."""

    attempt_id: str
    payer: Payer
    job_id: str | None  # None: a direct call
    provider_id: ProviderId
    model: ModelId
    modality: Modality
    quote: Quote = field(default_factory=Quote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """One call of one place, after it. `is_exact`: cost_micro is what the usage comes to; else the most it can be."""

    attempt: AttemptInfo
    outcome: Outcome
    error_code: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_micro: int = 0
    is_exact: bool = True
    may_have_run: bool = False  # a paid place may have done the work, though it gave no result
    eta_s: float | None = None  # as it was expected when it was sent; None: nobody said
    took_s: float = 0.0


# ---- periods ----


def day_of(moment: float) -> str:
    """The UTC day: 2026-11-22."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def month_of(moment: float) -> str:
    """The UTC month: 2026-11."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m")


def bounds_of(period: str) -> tuple[datetime, datetime]:
    """Its first moment, and the first after it."""
    if len(period) == len("2026-11-22"):
        start = datetime.strptime(period, "%Y-%m-%d").replace(tzinfo=UTC)
        return start, start + timedelta(days=1)
    start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)


# ---- money ----


def usd(micro: int) -> float:
    return micro / MICRO


def micro_of(amount_usd: float) -> int:
    """Rounded down, as a limit should be: never a microdollar more than was said."""
    return int((Decimal(str(amount_usd)) * MICRO).to_integral_value(ROUND_FLOOR))


def shown(micro: int) -> str:
    """$0.000123: without the digits that are 0 beyond the cents."""
    dollars, rest = divmod(micro, MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"${dollars}.{digits}"


# ---- budgets ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """One limit and what has been taken of it, in one period."""

    owner: str  # as it is told: "organization org-1", "key key_01"
    period: str
    limit_micro: int
    spent_micro: int = 0
    reserved_micro: int = 0


def check(purses: Sequence[Purse], bound_micro: int, now: float) -> None:
    """Raises BudgetExceeded or BudgetReserved when a call that may cost `bound_micro` has no room in one of them."""
    for purse in purses:
        if purse.spent_micro + bound_micro > purse.limit_micro:
            raise BudgetExceeded(
                f"{_told(purse)}; this call may cost {shown(bound_micro)}: raise the budget, lower max_tokens, or name "
                "a local model",
                retry_after_s=(bounds_of(purse.period)[1].timestamp() - now),
            )
    for purse in purses:
        if purse.spent_micro + purse.reserved_micro + bound_micro > purse.limit_micro:
            raise BudgetReserved(
                f"{_told(purse)}, and calls that run hold {shown(purse.reserved_micro)} more; this call may cost "
                f"{shown(bound_micro)}: retry when they have ended",
                retry_after_s=RESERVED_RETRY_S,
            )


RESERVED_RETRY_S: Final = 1.0  # about what a short remote call takes


def _told(purse: Purse) -> str:
    return (
        f"{purse.owner} has spent {shown(purse.spent_micro)} of its budget of {shown(purse.limit_micro)} for "
        f"{purse.period}"
    )
