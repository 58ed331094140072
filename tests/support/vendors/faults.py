"""What can go wrong at a vendor, as values: a stand-in does as the next one says."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Status:
    """An error before anything was accepted. `kind` and `said`: the vendor's type (or code) and words."""

    status: int
    kind: str = ""
    said: str = "as the test asked"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """The head does not come until `until` is set. Accepted: the work is done meanwhile."""

    until: asyncio.Event


@dataclass(frozen=True)
class Cut:
    """The connection ends after so many chunks of the answer, without a proper end. 0: right after the head."""

    chunks: int = 1


@dataclass(frozen=True)
class Stall:
    """After so many chunks nothing comes any more, until `until` is set."""

    until: asyncio.Event
    chunks: int = 1


@dataclass(frozen=True)
class Ends:
    """A proper end of the body after so many chunks, before the answer has said that it ends."""

    chunks: int = 1


@dataclass(frozen=True)
class Garbage:
    """A chunk, or a body, that is not what the API says."""

    text: str = '{"choices": ['
    chunks: int = 1


@dataclass(frozen=True)
class FailsWithin:
    """An error event inside the stream."""

    kind: str = "server_error"
    said: str = "The server had an error"
    chunks: int = 1


Fault: TypeAlias = Status | Hang | Cut | Stall | Ends | Garbage | FailsWithin
Plan: TypeAlias = Callable[[], Fault | None]
"""What the next call meets."""


def first(*faults: Fault | None) -> Plan:
    """These for the first calls, in order; nothing for those after."""
    left: Iterator[Fault | None] = iter(faults)
    return lambda: next(left, None)


def always(fault: Fault | None) -> Plan:
    return lambda: fault


def cycle(faults: Iterable[Fault | None]) -> Plan:
    listed = list(faults)
    position = iter(range(10**9))
    return lambda: listed[next(position) % len(listed)]
