"""An asset: the record of one file of one organization. Pure.

Not about its bytes (files.py), nor about the table of such records (router/store/assets.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from ulid import ULID

from protos.errors import NotFound
from protos.types import OrganizationId

AssetId = NewType("AssetId", str)

PREFIX: Final = "asset_"


class Kind(StrEnum):
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"  # anything else


_KINDS: Final[Mapping[str, Kind]] = {kind.value: kind for kind in (Kind.IMAGE, Kind.AUDIO, Kind.VIDEO)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One row. Several assets may have the same bytes, which are kept once, under their hash. Times are UTC seconds."""

    id: AssetId
    organization_id: OrganizationId
    content_type: str  # type/subtype in lower case, without parameters
    filename: str | None
    size_bytes: int
    sha256: str  # in hexadecimal
    created_at: float
    expires_at: float | None  # from then on it is not found; None: it stays until it is deleted

    @property
    def kind(self) -> Kind:
        return _KINDS.get(self.content_type.partition("/")[0], Kind.FILE)


def new_asset_id(now: float) -> AssetId:
    """A ULID of that time, so that ids sort as the assets came."""
    return AssetId(f"{PREFIX}{ULID.from_timestamp(now)}")


def unknown_asset(asset_id: str) -> NotFound:
    return NotFound(
        f"there is no asset {asset_id[:80]!r}: it was deleted, it expired, or it never was; GET /v1/assets lists yours"
    )
