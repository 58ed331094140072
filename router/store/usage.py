"""What every attempt used and cost: a row each, and sums by day so that totals never walk the rows.

Written in the transaction that ends the attempt. Not about limits (budget.py).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)

from protos.types import Modality, OrganizationId, Usage
from router.spending import Outcome, Spent, day_of
from router.store import budget
from router.store.dialect import execute_many
from router.store.tables import metadata

_COUNTS: Final = {  # of Usage, by their names there
    "input_tokens": BigInteger,
    "output_tokens": BigInteger,
    "cached_tokens": BigInteger,
    "reasoning_tokens": BigInteger,
    "images": BigInteger,
    "audio_seconds": Double,
    "device_seconds": Double,
}

records: Final = Table(
    "usage_records",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("attempt_id", Text, nullable=False),
    Column("organization_id", Text, nullable=False),
    Column("key_id", Text),
    Column("job_id", Text),
    Column("provider_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    *(Column(name, kind, nullable=False) for name, kind in _COUNTS.items()),
    Column("estimated_cost_micro", BigInteger, nullable=False),
    Column("cost_micro", BigInteger, nullable=False),
    Column("is_exact", Boolean, nullable=False),
    Column("may_have_run", Boolean, nullable=False),
    Column("eta_s", Double),
    Column("took_s", Double, nullable=False),
    Column("at", Double, nullable=False),
)
Index("usage_records_list", records.c.organization_id, records.c.id)
Index("usage_records_job", records.c.job_id, records.c.id)

daily: Final = Table(
    "usage_daily",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),  # "": none
    Column("provider_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("attempts", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    *(Column(name, kind, nullable=False) for name, kind in _COUNTS.items()),
    Column("cost_micro", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

_OF_DAY: Final = ("organization_id", "day", "key_id", "provider_id", "model", "modality")
_SUMMED: Final = ("attempts", "completed", *_COUNTS, "cost_micro")
_INSERT: Final = insert(records)
_INSERT_DAY: Final = insert(daily)
_ADD: Final = (
    update(daily)
    .where(*(daily.c[name] == bindparam(f"of_{name}") for name in _OF_DAY))
    .values({name: daily.c[name] + bindparam(f"more_{name}") for name in _SUMMED})
)

Sums = dict[str, Any]  # Any: whole numbers and seconds, by the names in _SUMMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attempt, as it was written. `at`: its end, UTC seconds."""

    id: int
    attempt_id: str
    organization_id: OrganizationId
    key_id: str | None
    job_id: str | None
    provider_id: str
    model: str
    modality: Modality
    outcome: Outcome
    error_code: str | None
    usage: Usage
    estimated_cost_micro: int
    cost_micro: int
    is_exact: bool
    may_have_run: bool
    eta_s: float | None
    took_s: float
    at: float


# ---- writing ----


def write(connection: Connection, spent: Sequence[Spent], now: float) -> None:
    """Books attempts that have ended: their rows, the sums of the day, and what they had reserved."""
    if not spent:
        return
    rows = [_row(each, now) for each in spent]
    execute_many(connection, _INSERT, rows)
    for key, sums in _by_day(rows, day_of(now)).items():
        _add(connection, dict(zip(_OF_DAY, key, strict=True)), sums)
    for each in spent:
        if each.attempt.quote.bound_micro or each.cost_micro:
            budget.settle(connection, each, now)


def booked(spent: Sequence[Spent]) -> Callable[[Connection, float], None]:
    """A change that writes them, for attempts that end with no job."""

    def make(connection: Connection, now: float) -> None:
        write(connection, spent, now)

    return make


def adopt(connection: Connection, now: float) -> int:
    """Books what a router that died had under way, at the most it can have cost; how many that were. At a start only."""
    lost = budget.orphans(connection)
    write(connection, lost, now)
    return len(lost)


def _row(spent: Spent, now: float) -> dict[str, Any]:  # Any: a column's own type
    attempt = spent.attempt
    return {
        "attempt_id": attempt.attempt_id,
        "organization_id": attempt.payer.organization_id,
        "key_id": attempt.payer.key_id,
        "job_id": attempt.job_id,
        "provider_id": attempt.provider_id,
        "model": attempt.model,
        "modality": attempt.modality.value,
        "outcome": spent.outcome.value,
        "error_code": spent.error_code,
        **asdict(spent.usage),
        "estimated_cost_micro": attempt.quote.estimated_micro,
        "cost_micro": spent.cost_micro,
        "is_exact": spent.is_exact,
        "may_have_run": spent.may_have_run,
        "eta_s": spent.eta_s,
        "took_s": spent.took_s,
        "at": now,
    }


def _by_day(rows: Sequence[Mapping[str, Any]], day: str) -> dict[tuple[str, ...], Sums]:  # Any: as in _row
    found: dict[tuple[str, ...], Sums] = defaultdict(lambda: dict.fromkeys(_SUMMED, 0))
    for row in rows:
        key = (row["organization_id"], day, row["key_id"] or "", row["provider_id"], row["model"], row["modality"])
        sums = found[key]
        for name in (*_COUNTS, "cost_micro"):
            sums[name] += row[name]
        sums["attempts"] += 1
        sums["completed"] += row["outcome"] == Outcome.COMPLETED
    return found


def _add(connection: Connection, key: Mapping[str, str], sums: Sums) -> None:
    """An update, then an insert: the upsert of each database is its own dialect, and a group has few such keys."""
    of = {f"of_{name}": value for name, value in key.items()}
    more = {f"more_{name}": sums[name] for name in _SUMMED}
    if execute_many(connection, _ADD, [of | more]) == 0:
        execute_many(connection, _INSERT_DAY, [{**key, **sums}])


# ---- reading ----


def of_job(connection: Connection, job_id: str) -> Sequence[Record]:
    """Its attempts, in the order in which they ended."""
    found = connection.execute(select(records).where(records.c.job_id == job_id).order_by(records.c.id))
    return [_record(row) for row in found]


def may_have_run(connection: Connection, job_id: str) -> Sequence[str]:
    """The paid places that may have done the job's work already, without a result that anybody saw."""
    return list(
        connection.scalars(
            select(records.c.provider_id).where(records.c.job_id == job_id, records.c.may_have_run.is_(True))
        )
    )


def listed(
    connection: Connection, organization_id: OrganizationId, *, before: int | None, limit: int
) -> Sequence[Record]:
    """Newest first."""
    wanted = select(records).where(records.c.organization_id == organization_id)
    if before is not None:
        wanted = wanted.where(records.c.id < before)
    return [_record(row) for row in connection.execute(wanted.order_by(records.c.id.desc()).limit(limit))]


def by_day(connection: Connection, organization_id: OrganizationId, first: str, last: str) -> Sequence[Sums]:
    """The sums of each day that had an attempt, newest first, as {day, ...}."""
    return _summed(connection, organization_id, first, last, ("day",))


def by_place(connection: Connection, organization_id: OrganizationId, first: str, last: str) -> Sequence[Sums]:
    """The sums of each model at each provider over those days, as {provider_id, model, modality, ...}."""
    return _summed(connection, organization_id, first, last, ("provider_id", "model", "modality"))


def _summed(
    connection: Connection, organization_id: OrganizationId, first: str, last: str, by: Sequence[str]
) -> Sequence[Sums]:
    columns = [daily.c[name] for name in by]
    sums = [func.sum(daily.c[name]).label(name) for name in _SUMMED]
    wanted = (
        select(*columns, *sums)
        .where(daily.c.organization_id == organization_id, daily.c.day.between(first, last))
        .group_by(*columns)
        .order_by(*(column.desc() for column in columns))
    )
    return [dict(row._mapping) for row in connection.execute(wanted)]  # its public name, in spite of the underscore


def _record(row: Row[Any]) -> Record:  # Any: a row of all columns of records
    columns = dict(row._mapping)
    usage = Usage(**{name: columns.pop(name) for name in _COUNTS})
    columns["modality"], columns["outcome"] = Modality(row.modality), Outcome(row.outcome)
    return Record(usage=usage, **columns)
