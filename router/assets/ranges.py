"""Which part of a file a Range header asks for. Pure.

Source: RFC 9110, section 14. One range of bytes; a list of them may be ignored, and is: the whole file is the answer.
"""

import re
from dataclasses import dataclass
from typing import Final

from protos.errors import RangeNotSatisfiable

_ONE_RANGE: Final = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)
_DIGITS: Final = 18  # more than any file has


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to, and without, `end`."""

    start: int
    end: int


def part_of(header: str, size_bytes: int) -> Part | None:
    """None: the whole file. Raises RangeNotSatisfiable when the range lies outside of it."""
    match = _ONE_RANGE.fullmatch(header)
    if match is None or match.groups() == ("", "") or max(map(len, match.groups())) > _DIGITS:
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size_bytes - int(last), 0), size_bytes
    else:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None  # not a range at all, says the RFC
    if start >= end:
        raise RangeNotSatisfiable(
            f"the range {header[:80]!r} lies outside of the file, which has {size_bytes} bytes: ask for less, or for all"
        )
    return Part(start, end)
