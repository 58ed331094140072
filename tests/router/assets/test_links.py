"""URLs that open one asset until a moment."""

from dataclasses import replace
from pathlib import Path

import pytest
from scripted import ManualClock

from protos.errors import Conflict, Forbidden
from protos.types import OrganizationId
from router.assets.asset import Asset, AssetId
from router.assets.links import LASTING_S, Links, key_of

ASSET = Asset(
    id=AssetId("asset_1"),
    organization_id=OrganizationId("org-1"),
    content_type="image/png",
    filename=None,
    size_bytes=1,
    sha256="0" * 64,
    created_at=0.0,
    expires_at=None,
)


def parts_of(url: str) -> tuple[str, str]:
    query = dict(part.split("=") for part in url.partition("?")[2].split("&"))
    return query["expires"], query["signature"]


def test_a_url_opens_its_asset_until_its_moment_and_no_longer() -> None:
    clock = ManualClock()
    links = Links(bytes(32), "https://fabric.example/", clock)
    url = links.url(ASSET.id, links.until(ASSET, 60))
    assert url.startswith("https://fabric.example/v1/assets/asset_1?")
    links.check("asset_1", *parts_of(url))
    clock.now += 59
    links.check("asset_1", *parts_of(url))
    clock.now += 1
    with pytest.raises(Forbidden, match="has expired"):
        links.check("asset_1", *parts_of(url))


def test_a_url_lasts_no_less_than_it_was_asked_to() -> None:
    clock = ManualClock()
    clock.now += 0.9
    links = Links(bytes(32), "", clock)
    url = links.url(ASSET.id, links.until(ASSET, 1.0))
    clock.now += 0.99
    links.check("asset_1", *parts_of(url))


def test_what_was_not_signed_opens_nothing() -> None:
    links = Links(bytes(32), "", ManualClock())
    expires, signature = parts_of(links.url(ASSET.id, links.until(ASSET, 60)))
    for asset_id, until, given in (
        ("asset_2", expires, signature),
        ("asset_1", str(int(expires) + 1), signature),
        ("asset_1", expires, signature[:-1]),
        ("asset_1", expires, ""),
        ("asset_1", "", signature),
        ("asset_1", expires, "ü"),
        ("asset_1", "\ud800", signature),
    ):
        with pytest.raises(Forbidden, match="signature"):
            links.check(asset_id, until, given)
    with pytest.raises(Forbidden, match="signature"):
        Links(bytes(31) + b"1", "", ManualClock()).check("asset_1", expires, signature)


def test_no_url_outlives_its_asset() -> None:
    clock = ManualClock()
    links = Links(bytes(32), "", clock)
    short = replace(ASSET, expires_at=clock.now + 10)
    assert links.until(short, 60) == clock.now + 10
    assert parts_of(links.lasting(short))[0] == str(int(clock.now + 10))
    assert parts_of(links.lasting(ASSET))[0] == str(int(clock.now + LASTING_S))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = key_of(tmp_path / "data")
    path = tmp_path / "data" / "assets.key"
    assert (len(key), path.stat().st_mode & 0o777) == (32, 0o600)
    assert key_of(tmp_path / "data") == key
    path.chmod(0o640)
    with pytest.raises(Conflict, match="chmod 600"):
        key_of(tmp_path / "data")


def test_a_key_file_that_holds_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "assets.key").write_bytes(b"short")
    (tmp_path / "assets.key").chmod(0o600)
    with pytest.raises(Conflict, match="has 5 bytes"):
        key_of(tmp_path)


def test_a_draft_of_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "assets.key.new").write_bytes(b"half")
    assert len(key_of(tmp_path)) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["assets.key"]
