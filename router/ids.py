"""Ids that sort by the time they were made (ULIDs). No secrets: the system's own randomness would cost more than all else."""

import random

from ulid import ULID


def ulid(moment: float) -> ULID:
    """A new one. moment: UTC seconds."""
    return ULID.from_bytes(_milliseconds(moment) + random.randbytes(10))


def first_ulid(moment: float) -> ULID:
    """The smallest that can be made at `moment`."""
    return ULID.from_bytes(_milliseconds(moment) + bytes(10))


def _milliseconds(moment: float) -> bytes:
    return min(max(int(moment * 1000), 0), 2**48 - 1).to_bytes(6, "big")
