"""What type of content a file is, and its name: what its sender says, where that means something, else what it shows. Pure."""

import mimetypes
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

import filetype

from protos.errors import InputInvalid

UNKNOWN: Final = "application/octet-stream"
HEAD_BYTES: Final = 8192  # of a file are enough to tell its type. Source: the documentation of filetype

# What programs send of themselves, whatever the file: the official client, curl, and HTTP libraries.
_SAYS_NOTHING: Final = frozenset({"", UNKNOWN, "application/json", "application/x-www-form-urlencoded"})
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")  # RFC 6838
_REGISTERED: Final[Mapping[str, str]] = {"audio/x-wav": "audio/wav", "audio/x-flac": "audio/flac"}
_NAME_CHARS: Final = 255


def content_type_of(stated: str | None, header: str, head: bytes, filename: str | None) -> str:
    """`stated` on purpose wins; then the header, unless it is one that says nothing; then the first bytes; then the
    name. Raises InputInvalid when `stated` is no media type."""
    if stated is not None:
        if not _MEDIA_TYPE.fullmatch(bare := _bare(stated)):
            raise InputInvalid.at("content_type", f"is {stated[:80]!r}: use a media type such as image/png")
        return bare
    declared = _bare(header)
    if declared not in _SAYS_NOTHING and _MEDIA_TYPE.fullmatch(declared):
        return declared
    return sniffed(head) or _by_name(filename) or UNKNOWN


def sniffed(head: bytes) -> str | None:
    """The type that the first bytes show, None when they show none."""
    found: str | None = filetype.guess_mime(head[:HEAD_BYTES]) if head else None
    return None if found is None else _REGISTERED.get(found, found)


def checked_filename(given: str | None) -> str | None:
    """The name without folders. Raises InputInvalid for one that no system could keep."""
    if given is None:
        return None
    name = PurePosixPath(given.replace("\\", "/")).name
    if name in ("", "..") or len(name) > _NAME_CHARS or not name.isprintable():
        raise InputInvalid.at("filename", f"is {given[:80]!r}: use 1 to {_NAME_CHARS} printable characters")
    return name


def _bare(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _by_name(filename: str | None) -> str | None:
    return None if filename is None else mimetypes.MimeTypes().guess_type(filename)[0]
