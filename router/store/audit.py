"""The audit log in the database: who did what to which thing, when, and whether it was allowed.

Not about which calls are recorded (router/api/access.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Index, Integer, Row, Table, Text, insert, select

from protos.types import OrganizationId
from router.ids import ulid
from router.store.dialect import execute_many
from router.store.tables import metadata

audit_logs: Final = Table(
    "audit_logs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource_id", Text),
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    Column("request_id", Text),
    Column("detail", Text),
    Column("created_at", Double, nullable=False),
)
Index("audit_logs_list", audit_logs.c.organization_id, audit_logs.c.id)


_INSERT: Final = insert(audit_logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody did. `action`: resource.verb."""

    organization_id: OrganizationId
    actor: str  # a key's id, or what stands for it
    action: str
    resource_id: str | None = None
    outcome: str = "success"  # success, denied (lacks the right), failure
    status: int | None = None  # of the HTTP answer, if it was one
    request_id: str | None = None
    detail: str | None = None


_FIELDS: Final = tuple(field.name for field in fields(Deed))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: str  # an ULID: sorts by time
    deed: Deed
    created_at: float  # UTC seconds


def record(connection: Connection, now: float, deed: Deed) -> None:
    """Within the change that it is about, or one of its own."""
    its = {name: getattr(deed, name) for name in _FIELDS}
    execute_many(connection, _INSERT, [{"id": f"audit_{ulid(now)}", "created_at": now, **its}])


def listed(
    connection: Connection, reach: OrganizationId | None, limit: int, before: str | None = None
) -> Sequence[AuditEntry]:
    """Newest first; of all organizations when `reach` is None. `before`: the id to continue after."""
    statement = select(audit_logs).order_by(audit_logs.c.id.desc()).limit(limit)
    if reach is not None:
        statement = statement.where(audit_logs.c.organization_id == reach)
    if before is not None:
        statement = statement.where(audit_logs.c.id < before)
    return [_entry_from(row) for row in connection.execute(statement)]


def _entry_from(row: Row[Any]) -> AuditEntry:  # Any: a row of all columns
    columns = dict(row._mapping)  # its public name, in spite of the underscore
    return AuditEntry(columns.pop("id"), created_at=columns.pop("created_at"), deed=Deed(**columns))
