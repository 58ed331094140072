"""What a file is, by what is said and shown of it, and what it may be called."""

import pytest

from protos.errors import InputInvalid
from protos.types import OrganizationId
from router.assets.asset import Asset, AssetId, Kind, new_asset_id
from router.assets.content import checked_filename, content_type_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)


@pytest.mark.parametrize(
    ("stated", "header", "head", "filename", "expected"),
    [
        ("image/gif", "image/jpeg", PNG, "a.webp", "image/gif"),
        (None, "image/jpeg", PNG, "a.webp", "image/jpeg"),
        (None, "application/json; charset=utf-8", PNG, "a.webp", "image/png"),
        (None, "", PNG, "a.webp", "image/png"),
        (None, "application/octet-stream", b"a,b", "a.csv", "text/csv"),
        (None, "application/json", b"{}", "a.json", "application/json"),
        (None, "not/a type", b"text", None, "application/octet-stream"),
        (None, "", b"", None, "application/octet-stream"),
    ],
)
def test_what_is_said_on_purpose_wins_then_the_header_then_the_bytes_then_the_name(
    stated: str | None, header: str, head: bytes, filename: str | None, expected: str
) -> None:
    assert content_type_of(stated, header, head, filename) == expected


@pytest.mark.parametrize("stated", ["", "image", "image/", "image/png\r\nx: y", "a/b/c", "ä/b"])
def test_a_stated_type_must_be_one(stated: str) -> None:
    with pytest.raises(InputInvalid, match="content_type"):
        content_type_of(stated, "", PNG, None)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, None), ("a.png", "a.png"), ("/etc/a b", "a b"), ("c:\\x\\y.txt", "y.txt"), ("a/", "a")]
)
def test_a_name_is_kept_without_its_folders(given: str | None, kept: str | None) -> None:
    assert checked_filename(given) == kept


@pytest.mark.parametrize("given", ["", "/", ".", "..", "a/..", "a\nb", "a\0", "x" * 256])
def test_a_name_that_no_system_keeps_is_refused(given: str) -> None:
    with pytest.raises(InputInvalid, match="filename"):
        checked_filename(given)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", Kind.IMAGE),
        ("audio/wav", Kind.AUDIO),
        ("video/mp4", Kind.VIDEO),
        ("application/pdf", Kind.FILE),
        ("file/x", Kind.FILE),
    ],
)
def test_the_kind_follows_from_the_type(content_type: str, kind: Kind) -> None:
    asset = Asset(
        id=AssetId("asset_1"),
        organization_id=OrganizationId("org-1"),
        content_type=content_type,
        filename=None,
        size_bytes=1,
        sha256="0" * 64,
        created_at=0.0,
        expires_at=None,
    )
    assert asset.kind is kind


def test_ids_sort_as_the_assets_came() -> None:
    assert new_asset_id(1_800_000_000.0) < new_asset_id(1_800_000_000.001)
