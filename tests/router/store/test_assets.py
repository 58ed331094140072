"""The records of assets: what runs while their table grows walks an index, and what is kept is counted right."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ORGANIZATION
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.dialects import sqlite

from protos.errors import NotFound
from protos.types import OrganizationId
from router.assets.asset import Asset, AssetId, new_asset_id
from router.store import assets as table
from router.store.sql import SqlStore
from router.store.tables import metadata

NOW = 1_800_000_000.0
ASSET = Asset(
    id=AssetId("asset_0"),
    organization_id=ORGANIZATION,
    content_type="image/png",
    filename=None,
    size_bytes=10,
    sha256="0" * 64,
    created_at=NOW,
    expires_at=None,
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Of an empty database as the store makes it."""

    async def create() -> None:
        store = SqlStore(f"sqlite:///{tmp_path}/jobs.db", lambda _events: None)
        await store.open()
        await store.close()

    asyncio.run(create())
    engine = create_engine(f"sqlite:///{tmp_path}/jobs.db")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


STATEMENTS = {
    "due": (table.due(NOW), "assets_expiry"),
    "newest": (table.newest(ORGANIZATION, NOW), "assets_list"),
    "referenced": (table.referenced(["a", "b"]), "assets_files"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_the_table_or_sorts_it(connection: Connection, name: str) -> None:
    statement, index = STATEMENTS[name]
    text = str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    plan: list[Any] = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert len(plan) == 1, plan
    assert plan[0].startswith(f"SEARCH assets USING {'COVERING ' if name == 'referenced' else ''}INDEX {index}"), plan


def test_an_asset_comes_back_as_it_was(connection: Connection) -> None:
    for index, asset in enumerate((ASSET, replace(ASSET, filename="a b", expires_at=NOW + 1, size_bytes=2**40))):
        asset = replace(asset, id=AssetId(f"asset_{index}"))  # noqa: PLW2901
        table.add(asset, None)(connection, NOW)
        assert table.get(connection, ORGANIZATION, asset.id, NOW) == asset
        assert table.get(connection, None, asset.id, NOW) == asset
        with pytest.raises(NotFound):
            table.get(connection, OrganizationId("other"), asset.id, NOW)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 100), st.none() | st.integers(1, 50)),
            st.integers(0, 50),
        ),
        max_size=30,
    )
)
def test_what_each_organization_keeps_is_the_sum_of_its_assets(steps: list[Any]) -> None:
    """A step adds an asset (whose, its bytes, when it expires), or lets that much time pass and removes what expired."""
    engine, now = create_engine("sqlite://"), NOW
    metadata.create_all(engine, tables=[table.assets, table.kept])
    with engine.begin() as connection:
        for index, step in enumerate(steps):
            if isinstance(step, int):
                now += step
                table.remove_expired(now)(connection, now)
            else:
                organization, size_bytes, age = step
                asset = replace(
                    ASSET,
                    id=new_asset_id(NOW + index),
                    organization_id=OrganizationId(organization),
                    size_bytes=size_bytes,
                    expires_at=None if age is None else now + age,
                )
                table.add(asset, None)(connection, now)
            rows = table.assets.c
            summed = select(rows.organization_id, func.sum(rows.size_bytes)).group_by(rows.organization_id)
            kept = select(table.kept.c.organization_id, table.kept.c.bytes).where(table.kept.c.bytes > 0)
            assert {row[0]: row[1] for row in connection.execute(kept)} == {
                row[0]: row[1] for row in connection.execute(summed)
            }
    engine.dispose()
