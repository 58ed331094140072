"""What every test gets: a guard that refuses any connection off this machine, hypothesis without a clock or chance, --long, --gpu, --rounds."""

import ipaddress
import sys
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

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

# No wall-clock assertions: machines are shared. The same examples each time, so that a change fails by itself and not by
# chance; --long looks for others.
_UNTIMED: Final = {"deadline": None, "max_examples": 50, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_UNTIMED)
settings.register_profile("others", **_UNTIMED)


# ---- the long form, those for a GPU, and many rounds ----


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the tests that are marked long: the long form of others")
    parser.addoption(
        "--gpu", nargs="?", const="cuda", help="the tests that are marked gpu and no others; cpu: a rehearsal"
    )
    parser.addoption("--rounds", type=int, metavar="N", help="run the tests that are marked rounds N times, not a few")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("others" if config.getoption("--long") else "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    is_gpu = config.getoption("--gpu") is not None
    out = [item for item in items if (item.get_closest_marker("gpu") is not None) != is_gpu]
    if not config.getoption("--long"):
        out += [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture
def round_number(request: pytest.FixtureRequest) -> int:
    """Of a test that is marked rounds, from 0: the seed of what it leaves to chance."""
    number: int = request.param
    return number


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if marker := metafunc.definition.get_closest_marker("rounds"):
        if "round_number" not in metafunc.fixturenames:
            metafunc.fixturenames.append("round_number")
        rounds = metafunc.config.getoption("--rounds") or marker.args[0]
        metafunc.parametrize("round_number", range(rounds), indirect=True)
