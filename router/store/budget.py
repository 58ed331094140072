"""Budgets, what is spent of them, and what calls that run have reserved: the tables, and the one way money moves.

A reservation is checked and made in one change of the writer, so calls that come together cannot take the same room
twice. Not about what a call costs (providers/pricing.py) nor whether there is room (router/spending.py, pure).
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from protos.types import Modality, ModelId, OrganizationId, ProviderId
from router.spending import AttemptInfo, Outcome, Payer, Purse, Quote, Spent, check, day_of, month_of
from router.store.dialect import execute_many, fetch
from router.store.tables import metadata

_WHOLE: Final = ""  # the key_id of what counts for the organization as a whole

budgets: Final = Table(
    "budgets",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("monthly_limit_micro", BigInteger),
    Column("daily_limit_micro", BigInteger),
    Column("updated_at", Double, nullable=False),
)

# Rows only of what is paid: local work leaves none.
spending: Final = Table(
    "spending",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("period", Text, primary_key=True),  # a UTC month or day
    Column("spent_micro", BigInteger, nullable=False),
    Column("reserved_micro", BigInteger, nullable=False),
)

# What a record needs when the router dies in the call: see `adopt`.
reservations: Final = Table(
    "reservations",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("key_id", Text),
    Column("job_id", Text),
    Column("provider_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("estimated_micro", BigInteger, nullable=False),
    Column("bound_micro", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits in microdollars; None: none."""

    monthly_limit_micro: int | None = None
    daily_limit_micro: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an owner has spent and reserved in one period."""

    period: str
    spent_micro: int = 0
    reserved_micro: int = 0


# ---- limits ----

_LIMITED: Final = "limited"  # organizations, in what SQLAlchemy keeps beside the connection that writes


def limited(connection: Connection) -> Set[str]:
    """The organizations that have a budget, or had one since, also of a key. Asked once of the connection that writes; from
    then on `put` keeps it: an organization is in it before its limit is."""
    has_limit = or_(budgets.c.monthly_limit_micro.is_not(None), budgets.c.daily_limit_micro.is_not(None))
    found = set(connection.scalars(select(budgets.c.organization_id).where(has_limit)))
    connection.info[_LIMITED] = found
    return found


def put(payer: Payer, budget: Budget) -> Callable[[Connection, float], None]:
    def make(connection: Connection, now: float) -> None:
        connection.info[_LIMITED].add(payer.organization_id)
        owner = {"organization_id": payer.organization_id, "key_id": payer.key_id or _WHOLE}
        limits = {
            "monthly_limit_micro": budget.monthly_limit_micro,
            "daily_limit_micro": budget.daily_limit_micro,
            "updated_at": now,
        }
        same = and_(*(budgets.c[name] == value for name, value in owner.items()))
        if connection.execute(update(budgets).where(same).values(limits)).rowcount == 0:
            connection.execute(insert(budgets).values(**owner, **limits))

    return make


def budget_of(connection: Connection, payer: Payer) -> Budget:
    rows = fetch(connection, _BUDGET, _owner(payer))
    return Budget(monthly_limit_micro=rows[0].monthly, daily_limit_micro=rows[0].daily) if rows else Budget()


def balance_of(connection: Connection, payer: Payer, period: str) -> Balance:
    rows = fetch(connection, _BALANCE, {**_owner(payer), "of_period": period})
    if not rows:
        return Balance(period=period)
    return Balance(period=period, spent_micro=rows[0].spent, reserved_micro=rows[0].reserved)


def _owner(payer: Payer) -> dict[str, str]:
    return {"of_organization": payer.organization_id, "of_key": payer.key_id or _WHOLE}


_BUDGET: Final = select(
    budgets.c.monthly_limit_micro.label("monthly"), budgets.c.daily_limit_micro.label("daily")
).where(budgets.c.organization_id == bindparam("of_organization"), budgets.c.key_id == bindparam("of_key"))
_BALANCE: Final = select(spending.c.spent_micro.label("spent"), spending.c.reserved_micro.label("reserved")).where(
    spending.c.organization_id == bindparam("of_organization"),
    spending.c.key_id == bindparam("of_key"),
    spending.c.period == bindparam("of_period"),
)
_TOUCHED: Final = (  # by what one payer pays
    spending.c.organization_id == bindparam("of_organization"),
    or_(spending.c.key_id == bindparam("first_key"), spending.c.key_id == bindparam("last_key")),
    or_(spending.c.period == bindparam("of_day"), spending.c.period == bindparam("of_month")),
)
_KNOWN: Final = select(spending.c.key_id, spending.c.period).where(*_TOUCHED)
_MOVE: Final = (
    update(spending)
    .where(*_TOUCHED)
    .values(
        spent_micro=spending.c.spent_micro + bindparam("more_spent"),
        reserved_micro=spending.c.reserved_micro + bindparam("more_reserved"),
    )
)
_FIRST: Final = insert(spending)
_RESERVE: Final = insert(reservations)
_RESERVED: Final = select(reservations.c.at, reservations.c.bound_micro.label("bound")).where(
    reservations.c.attempt_id == bindparam("of_attempt")
)
_FREE: Final = delete(reservations).where(reservations.c.attempt_id == bindparam("of_attempt"))


# ---- money that moves ----


def reserve(attempt: AttemptInfo) -> Callable[[Connection, float], None]:
    """Books the most that the attempt can cost. Raises BudgetExceeded or BudgetReserved."""

    def make(connection: Connection, now: float) -> None:
        check(_purses(connection, attempt.payer, now), attempt.quote.bound_micro, now)
        hold(attempt)(connection, now)

    return make


def hold(attempt: AttemptInfo) -> Callable[[Connection, float], None]:
    """Books it whether or not there is room: of a call that is made already, as no budget limited it then. One that was set
    since counts it."""

    def make(connection: Connection, now: float) -> None:
        execute_many(connection, _RESERVE, [_reservation(attempt, now)])
        _move(connection, attempt.payer, now, spent=0, reserved=attempt.quote.bound_micro)

    return make


def settle(connection: Connection, spent: Spent, now: float) -> None:
    """Frees what the attempt had reserved, and books what it has cost."""
    attempt = spent.attempt
    rows = fetch(connection, _RESERVED, {"of_attempt": attempt.attempt_id})
    if not rows:
        if spent.cost_micro:
            _move(connection, attempt.payer, now, spent=spent.cost_micro, reserved=0)
        return
    execute_many(connection, _FREE, [{"of_attempt": attempt.attempt_id}])
    # At the time of the reservation: a call over midnight counts for the day that had to have room for it.
    _move(connection, attempt.payer, rows[0].at, spent=spent.cost_micro, reserved=-rows[0].bound)


def orphans(connection: Connection) -> Sequence[Spent]:
    """The attempts that a dead router had under way. A vendor may have billed them, so each counts at its bound."""
    return [
        Spent(
            attempt=(attempt := _attempt(row)),
            outcome=Outcome.LOST,
            cost_micro=attempt.quote.bound_micro,
            is_exact=False,
            may_have_run=True,
        )
        for row in connection.execute(select(reservations).order_by(reservations.c.at))
    ]


def _purses(connection: Connection, payer: Payer, now: float) -> list[Purse]:
    return [purse for owner in _owners(payer) for purse in _purses_of(connection, owner, now)]


def _purses_of(connection: Connection, owner: Payer, now: float) -> Iterator[Purse]:
    budget = budget_of(connection, owner)
    told = f"key {owner.key_id}" if owner.key_id else f"organization {owner.organization_id}"
    for limit, period in ((budget.daily_limit_micro, day_of(now)), (budget.monthly_limit_micro, month_of(now))):
        if limit is not None:
            balance = balance_of(connection, owner, period)
            yield Purse(
                owner=told,
                period=period,
                limit_micro=limit,
                spent_micro=balance.spent_micro,
                reserved_micro=balance.reserved_micro,
            )


def _owners(payer: Payer) -> list[Payer]:
    whole = Payer(organization_id=payer.organization_id)
    return [whole] if payer.key_id is None else [whole, payer]


def _move(connection: Connection, payer: Payer, moment: float, *, spent: int, reserved: int) -> None:
    """An update, then an insert: the upsert of each database is its own dialect, and a period begins once."""
    keys = sorted({_WHOLE, payer.key_id or _WHOLE})
    periods = (day_of(moment), month_of(moment))
    its = {
        "of_organization": payer.organization_id,
        "first_key": keys[0],
        "last_key": keys[-1],
        "of_day": periods[0],
        "of_month": periods[1],
    }
    moved = execute_many(connection, _MOVE, [{**its, "more_spent": spent, "more_reserved": reserved}])
    if moved < len(keys) * len(periods):
        known = {(row.key_id, row.period) for row in fetch(connection, _KNOWN, its)}
        new = [(key, period) for key in keys for period in periods if (key, period) not in known]
        begun = {"organization_id": payer.organization_id, "spent_micro": spent, "reserved_micro": reserved}
        execute_many(connection, _FIRST, [{**begun, "key_id": key, "period": period} for key, period in new])


def _reservation(attempt: AttemptInfo, now: float) -> dict[str, object]:
    return {
        "attempt_id": attempt.attempt_id,
        "organization_id": attempt.payer.organization_id,
        "key_id": attempt.payer.key_id,
        "job_id": attempt.job_id,
        "provider_id": attempt.provider_id,
        "model": attempt.model,
        "modality": attempt.modality.value,
        "estimated_micro": attempt.quote.estimated_micro,
        "bound_micro": attempt.quote.bound_micro,
        "at": now,
    }


def _attempt(row: Row[tuple[object, ...]]) -> AttemptInfo:
    return AttemptInfo(
        attempt_id=row.attempt_id,
        payer=Payer(organization_id=OrganizationId(row.organization_id), key_id=row.key_id),
        job_id=row.job_id,
        provider_id=ProviderId(row.provider_id),
        model=ModelId(row.model),
        modality=Modality(row.modality),
        quote=Quote(estimated_micro=row.estimated_micro, bound_micro=row.bound_micro),
    )
