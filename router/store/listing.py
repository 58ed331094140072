"""The list of jobs, whatever its filters, as a few seeks in an index: it costs the same at a thousand jobs and a million.

A filter that few jobs pass must not walk the rest, and an index for each combination of filters would cost every write.
So a column of few values that is not filtered is walked once for each of its values, newest first, and the walks are
merged. Not about the other reads (queries.py).
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, select, union_all

from protos.types import Modality, Tier
from router.jobs import JobState, first_id_at
from router.store import tables
from router.store.base import JobFilter

_jobs = tables.jobs
_FEW: Final[Mapping[str, tuple[str | None, ...]]] = {  # the columns that the indexes have before the id
    "modality": tuple(modality.value for modality in Modality),
    "tier": (None, *(tier.value for tier in Tier)),
    "state": tuple(state.value for state in JobState),
}


def job_list(wanted: JobFilter) -> tuple[Select[Any], Mapping[str, object]]:  # Any: what a row holds is not in its type
    """The statement and its values. Newest first: ids are ULIDs, so `since` is a bound on them as `before` is."""
    values: dict[str, object] = {
        "organization_id": wanted.organization_id,
        "model": wanted.model,
        "since": None if wanted.since is None else first_id_at(wanted.since),
        "before": wanted.before,
    } | {name: getattr(wanted, _FIELD.get(name, name)) for name in _FEW}
    given = {name: str(value) for name, value in values.items() if value is not None}
    return _statement(frozenset(given)), {**given, "limit": wanted.limit}


_FIELD: Final = {"state": "status"}  # of the filter, where its name is not the column's


@lru_cache(maxsize=128)  # by which filters are given: as many as there can be
def _statement(given: frozenset[str]) -> Select[Any]:  # Any: as above
    limit: BindParameter[int] = bindparam("limit")
    if not given & {"model", *_FEW}:
        return select(_jobs).where(*_bounds(given)).order_by(_jobs.c.id.desc()).limit(limit)
    walks = [
        select(select(_jobs.c.id).where(*_bounds(given), *few).order_by(_jobs.c.id.desc()).limit(limit).subquery().c.id)
        for few in _few(given)
    ]
    merged = union_all(*walks).subquery()
    newest = select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)
    return select(_jobs).where(_jobs.c.id.in_(newest)).order_by(_jobs.c.id.desc())


def _bounds(given: frozenset[str]) -> list[ColumnElement[bool]]:
    bounds = [_jobs.c.organization_id == bindparam("organization_id")]
    if "model" in given:
        bounds.append(_jobs.c.model == bindparam("model"))
    if "since" in given:
        bounds.append(_jobs.c.id >= bindparam("since"))
    if "before" in given:
        bounds.append(_jobs.c.id < bindparam("before"))
    return bounds


def _few(given: frozenset[str]) -> list[list[ColumnElement[bool]]]:
    """The conditions of each walk: what was asked for, or one combination of what was not."""
    asked = [_jobs.c[name] == bindparam(name) for name in _FEW if name in given]
    open_columns = [name for name in _FEW if name not in given]
    return [
        [*asked, *(_jobs.c[name] == value for name, value in zip(open_columns, values, strict=True))]
        for values in product(*(_FEW[name] for name in open_columns))
    ]
