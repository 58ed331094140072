"""What counts as this machine."""

import pytest

from protos.locality import is_local


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:11434",
        "http://127.0.0.1:8000/v1",
        "https://[::1]:8443",
        "127.8.9.1:3100",
        "localhost:3002",
        "[::1]:3002",
        "unix:/run/node.sock",
        "HTTP://LOCALHOST:1",
    ],
)
def test_loopback_is_this_machine(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://192.168.1.5:11434",
        "https://api.openai.com/v1",
        "gpu2:3100",
        "http://localhost.example.com",  # a name of somebody else's
        "http://127.0.0.1.example.com:80",
        "http://localhost@example.com/",  # a user name, then the host
        "http://0.0.0.0:1",
        "[::1",
        "",
    ],
)
def test_anything_else_may_leave_it(address: str) -> None:
    assert not is_local(address)
