"""The guard of conftest.py really guards."""

import socket

import pytest


def test_a_connection_off_this_machine_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(AssertionError, match="tests reach this machine only"):
        sock.connect(("192.0.2.1", 9))  # TEST-NET-1 of RFC 5737: never routed


def test_a_name_is_not_looked_up_elsewhere() -> None:
    with pytest.raises(AssertionError, match="tests reach this machine only"):
        socket.getaddrinfo("example.invalid", 80)


def test_a_connection_to_this_machine_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
