"""API keys in the database: what is known of each, and the keyed hash of its secret; the secret itself is nowhere.

Not about how a secret is hashed or checked (router/keyring.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
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
    delete,
    func,
    insert,
    select,
    update,
)

from protos.types import OrganizationId
from router.store.tables import metadata

EVERY_ORGANIZATION: Final = OrganizationId("*")  # of a key that belongs to none; no organization can have this id

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("organization_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # JSON
    Column("disabled", Boolean, nullable=False),
    Column("expires_at", Double),
    Column("created_at", Double, nullable=False),
    Column("last_used_at", Double),
    Column("rate_per_s", Double),
    Column("max_concurrent_jobs", Integer),
)
Index("api_keys_list", api_keys.c.organization_id, api_keys.c.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One row, without the digest. Times are UTC seconds. `scopes` as they were given."""

    id: str
    organization_id: OrganizationId
    name: str
    prefix: str
    scopes: tuple[str, ...]
    disabled: bool = False
    expires_at: float | None = None
    created_at: float
    last_used_at: float | None = None
    rate_per_s: float | None = None  # None: the settings' own
    max_concurrent_jobs: int | None = None  # None: the settings' own


def every(connection: Connection) -> Sequence[tuple[str, ApiKey]]:
    """(digest, key) of all, oldest first: ids are ULIDs."""
    return [(row.digest, _key_from(row)) for row in connection.execute(select(api_keys).order_by(api_keys.c.id))]


def count(connection: Connection, organization_id: OrganizationId) -> int:
    wanted = select(func.count()).select_from(api_keys).where(api_keys.c.organization_id == organization_id)
    return connection.scalar(wanted) or 0


def add(connection: Connection, key: ApiKey, digest: str) -> None:
    columns = {name: getattr(key, name) for name in ApiKey.__slots__} | {"scopes": json.dumps(key.scopes)}
    connection.execute(insert(api_keys).values(digest=digest, **columns))


def disable(connection: Connection, key_id: str) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(disabled=True))


def replace_secret(connection: Connection, key_id: str, digest: str, prefix: str) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(digest=digest, prefix=prefix))


def remove(connection: Connection, key_id: str) -> None:
    connection.execute(delete(api_keys).where(api_keys.c.id == key_id))


def note_use(connection: Connection, used_at: Mapping[str, float]) -> None:
    """One statement for many keys; those that are gone meanwhile stay so."""
    rows = [{"key": key_id, "used_at": at} for key_id, at in used_at.items()]
    connection.execute(_NOTE_USE, rows)


_NOTE_USE: Final = update(api_keys).where(api_keys.c.id == bindparam("key")).values(last_used_at=bindparam("used_at"))


def _key_from(row: Row[Any]) -> ApiKey:  # Any: a row of all columns
    columns = dict(row._mapping)  # its public name, in spite of the underscore
    del columns["digest"]
    return ApiKey(**columns | {"scopes": tuple(json.loads(row.scopes))})
