"""The records of assets and what each organization keeps: their tables, reads and writes.

Not about the bytes (router/assets/files.py). A file may be removed when `unreferenced` names it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Row,
    Select,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    update,
)

from protos.errors import QuotaExceeded
from protos.types import OrganizationId
from router.assets.asset import Asset, AssetId, unknown_asset
from router.store.tables import metadata

EXPIRED_AT_ONCE: Final = 200  # rows of one change, which must be short

assets: Final = Table(
    "assets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("filename", Text),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
)
_expires = assets.c.expires_at.is_not(None)
Index("assets_list", assets.c.organization_id, assets.c.id)
Index("assets_files", assets.c.sha256)
Index("assets_expiry", assets.c.expires_at, sqlite_where=_expires, postgresql_where=_expires)

# Kept beside the rows: to sum them up at each upload would walk them all.
kept: Final = Table(
    "assets_kept",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)


# ---- writes ----


def add(asset: Asset, quota_bytes: int | None) -> Callable[[Connection, float], None]:
    """quota_bytes: None where what exists must be kept, whatever there is already. Raises QuotaExceeded."""

    def make(connection: Connection, _now: float) -> None:
        if quota_bytes is not None:
            check_room(connection, asset.organization_id, asset.size_bytes, quota_bytes)
        connection.execute(insert(assets).values(_columns(asset)))
        _count(connection, asset.organization_id, asset.size_bytes)

    return make


def remove(organization_id: OrganizationId | None, asset_id: AssetId) -> Callable[[Connection, float], Asset]:
    """The asset that is gone now. Raises as `get`."""

    def make(connection: Connection, now: float) -> Asset:
        asset = get(connection, organization_id, asset_id, now)
        _remove(connection, [asset])
        return asset

    return make


def remove_expired(at: float) -> Callable[[Connection, float], Sequence[Asset]]:
    """Those that are gone now, EXPIRED_AT_ONCE at most."""

    def make(connection: Connection, _now: float) -> Sequence[Asset]:
        gone = [_asset_from(row) for row in connection.execute(due(at))]
        _remove(connection, gone)
        return gone

    return make


# ---- reads ----


def get(connection: Connection, organization_id: OrganizationId | None, asset_id: AssetId, now: float) -> Asset:
    """organization_id: whose it must be; None: anybody's. Raises NotFound, also for another organization's."""
    statement = select(assets).where(assets.c.id == asset_id, _is_alive(now))
    row = connection.execute(statement).one_or_none()
    if row is None or organization_id not in (None, row.organization_id):
        raise unknown_asset(asset_id)
    return _asset_from(row)


def listed(
    connection: Connection, organization_id: OrganizationId, now: float, limit: int, offset: int
) -> Sequence[Asset]:
    """Newest first."""
    statement = newest(organization_id, now).limit(limit).offset(offset)
    return [_asset_from(row) for row in connection.execute(statement)]


def unreferenced(connection: Connection, hashes: Collection[str]) -> Collection[str]:
    """Which of these files no asset has."""
    return set(hashes) - set(connection.scalars(referenced(hashes)))


def check_room(connection: Connection, organization_id: OrganizationId, size_bytes: int, quota_bytes: int) -> None:
    """Raises QuotaExceeded."""
    kept_bytes = connection.scalar(select(kept.c.bytes).where(kept.c.organization_id == organization_id)) or 0
    if kept_bytes + size_bytes > quota_bytes:
        raise QuotaExceeded(
            f"organization {organization_id} keeps {kept_bytes} bytes of assets, and {size_bytes} more would be over its "
            f"quota of {quota_bytes}: delete some, or raise FABRIC_ASSET_QUOTA_BYTES",
            details={"kept_bytes": kept_bytes, "quota_bytes": quota_bytes},
        )


# ---- statements that run while the table grows: each walks an index ----


def due(at: float) -> Select[Any]:  # Any: what a row holds is not in its type
    return select(assets).where(assets.c.expires_at <= at).order_by(assets.c.expires_at).limit(EXPIRED_AT_ONCE)


def newest(organization_id: OrganizationId, now: float) -> Select[Any]:  # Any: as above
    mine = select(assets).where(assets.c.organization_id == organization_id, _is_alive(now))
    return mine.order_by(assets.c.id.desc())


def referenced(hashes: Collection[str]) -> Select[Any]:  # Any: as above
    return select(assets.c.sha256).where(assets.c.sha256.in_(hashes)).distinct()


# ---- rows ----


def _is_alive(now: float) -> Any:  # Any: SQLAlchemy's type of a condition
    return or_(assets.c.expires_at.is_(None), assets.c.expires_at > now)


def _remove(connection: Connection, gone: Sequence[Asset]) -> None:
    if gone:
        connection.execute(delete(assets).where(assets.c.id.in_([asset.id for asset in gone])))
    freed: Counter[OrganizationId] = Counter()
    for asset in gone:
        freed[asset.organization_id] += asset.size_bytes
    for organization_id, size_bytes in freed.items():
        _count(connection, organization_id, -size_bytes)


def _count(connection: Connection, organization_id: OrganizationId, size_bytes: int) -> None:
    mine = kept.c.organization_id == organization_id
    if connection.execute(update(kept).where(mine).values(bytes=kept.c.bytes + size_bytes)).rowcount == 0:
        connection.execute(insert(kept).values(organization_id=organization_id, bytes=size_bytes))


def _columns(asset: Asset) -> dict[str, Any]:  # Any: a column's own type
    return {column.name: getattr(asset, column.name) for column in assets.c}


def _asset_from(row: Row[Any]) -> Asset:  # Any: a row of all columns of assets
    return Asset(
        id=AssetId(row.id),
        organization_id=OrganizationId(row.organization_id),
        content_type=row.content_type,
        filename=row.filename,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
