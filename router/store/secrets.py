"""The sealed secrets of organizations: their table, its reads and its writes.

Nothing here sees a secret in clear: what comes in is sealed already (router/vault.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, Connection, Double, Table, Text, delete, func, insert, select, update

from protos.errors import NotFound, QuotaExceeded
from protos.types import OrganizationId
from router.store.tables import metadata

SECRETS_LIMIT: Final = 100  # of one organization; there are not that many vendors

secrets: Final = Table(
    "secrets",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True, slots=True)
class Secret:
    """What may be told of a secret. Times are UTC seconds."""

    name: str
    created_at: float
    updated_at: float


def put(organization_id: OrganizationId, name: str, sealed: str) -> Callable[[Connection, float], tuple[Secret, bool]]:
    """The secret as it stands then, and whether it is new. Raises QuotaExceeded."""

    def make(connection: Connection, now: float) -> tuple[Secret, bool]:
        kept = _one(connection, organization_id, name)
        if kept is not None:
            statement = update(secrets).where(secrets.c.organization_id == organization_id, secrets.c.name == name)
            connection.execute(statement.values(sealed=sealed, updated_at=now))
            return Secret(name, kept.created_at, now), False
        _check_room(connection, organization_id)
        row = {"name": name, "sealed": sealed, "created_at": now, "updated_at": now}
        connection.execute(insert(secrets).values(organization_id=organization_id, **row))
        return Secret(name, now, now), True

    return make


def remove(organization_id: OrganizationId, name: str) -> Callable[[Connection, float], None]:
    """Raises NotFound."""

    def make(connection: Connection, _now: float) -> None:
        statement = delete(secrets).where(secrets.c.organization_id == organization_id, secrets.c.name == name)
        if connection.execute(statement).rowcount == 0:
            raise NotFound(
                f"there is no secret {name[:80]!r}: GET /v1/organizations/{organization_id}/secrets lists yours"
            )

    return make


def renew(reseal: Callable[[str], str]) -> Callable[[Connection, float], None]:
    """Puts every secret under the newest key."""

    def make(connection: Connection, _now: float) -> None:
        for key, sealed in all_sealed(connection).items():
            organization_id, name = key
            statement = update(secrets).where(secrets.c.organization_id == organization_id, secrets.c.name == name)
            connection.execute(statement.values(sealed=reseal(sealed)))

    return make


def listed(connection: Connection, organization_id: OrganizationId) -> Sequence[Secret]:
    """By name."""
    columns = (secrets.c.name, secrets.c.created_at, secrets.c.updated_at)
    rows = connection.execute(
        select(*columns).where(secrets.c.organization_id == organization_id).order_by(secrets.c.name)
    )
    return [Secret(row.name, row.created_at, row.updated_at) for row in rows]


def all_sealed(connection: Connection) -> Mapping[tuple[str, str], str]:
    """Of every organization, by (organization, name)."""
    rows = connection.execute(select(secrets.c.organization_id, secrets.c.name, secrets.c.sealed))
    return {(row.organization_id, row.name): row.sealed for row in rows}


def _one(connection: Connection, organization_id: OrganizationId, name: str) -> Secret | None:
    return next((secret for secret in listed(connection, organization_id) if secret.name == name), None)


def _check_room(connection: Connection, organization_id: OrganizationId) -> None:
    counted = select(func.count()).select_from(secrets).where(secrets.c.organization_id == organization_id)
    if (connection.scalar(counted) or 0) >= SECRETS_LIMIT:
        raise QuotaExceeded(f"organization {organization_id} keeps {SECRETS_LIMIT} secrets, its limit: delete one")
