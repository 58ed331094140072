"""What every test gets: a guard that refuses any connection off this machine, hypothesis without a clock, and --long."""

import ipaddress
import sys
from typing import Any, Final

import pytest
from hypothesis import settings

_LOCAL_NAMES: Final = frozenset({"", "localhost"})


class OutsideConnectionError(AssertionError):
    """A test, or what it tests, tried to reach another machine."""


def _is_local(host: object) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    if text in _LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_outside(event: str, args: tuple[Any, ...]) -> None:  # Any: what the interpreter passes to audit hooks
    """Source: the audit events table of the Python documentation."""
    if event == "socket.getaddrinfo" and not _is_local(args[0]):
        raise OutsideConnectionError(f"a test looked up {args[0]!r}: tests reach this machine only")
    if event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple) and not _is_local(args[1][0]):
        raise OutsideConnectionError(f"a test connected to {args[1]!r}: tests reach this machine only")


sys.addaudithook(_refuse_outside)

settings.register_profile("fabric", deadline=None, max_examples=50)  # no wall-clock assertions: machines are shared
settings.load_profile("fabric")


# ---- the long form ----


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the tests that are marked long: many rounds of others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
