"""What a router reads at its start, and what it refuses to start with."""

import socket
from pathlib import Path

import pytest

from protos.errors import Conflict, InputInvalid
from router.settings import RouterSettings, bind, reachable_hosts

KEY = "fab_0123456789abcdef"


def test_nothing_set_gives_the_defaults() -> None:
    settings = RouterSettings.load({"PATH": "/bin"})
    assert (settings.host, settings.port, settings.nodes) == ("127.0.0.1", 3001, ("127.0.0.1:3100",))


def test_the_environment_is_read_and_the_command_line_wins() -> None:
    environ = {"FABRIC_PORT": "4000", "FABRIC_NODES": "a:1, b:2", "FABRIC_DATA_DIR": "/x", "FABRIC_LEASE_S": "2.5"}
    settings = RouterSettings.load(environ, {"port": 5000, "host": None})
    assert (settings.port, settings.nodes, settings.data_dir, settings.lease_s) == (
        5000,
        ("a:1", "b:2"),
        Path("/x"),
        2.5,
    )


def test_the_node_s_own_variables_are_left_alone() -> None:
    assert RouterSettings.load({"FABRIC_NODE_LISTEN": "x"}) == RouterSettings()


def test_an_unknown_variable_stops_the_start_and_the_known_ones_are_named() -> None:
    with pytest.raises(InputInvalid, match=r"FABRIC_PROT: is not a setting.*FABRIC_PORT"):
        RouterSettings.load({"FABRIC_PROT": "1"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FABRIC_PUBLIC_URL", "fabric.example"),
        ("FABRIC_ASSET_BYTES", "0"),
        ("FABRIC_ASSET_RETENTION_S", "-1"),
        ("FABRIC_UPLOAD_RETENTION_S", "inf"),
        ("FABRIC_PORT", "http"),
        ("FABRIC_PORT", "65536"),
        ("FABRIC_LEASE_S", "0"),
        ("FABRIC_LEASE_S", "nan"),
        ("FABRIC_BODY_BYTES", "-1"),
        ("FABRIC_API_KEYS", "short"),
        ("FABRIC_NODES", "127.0.0.1:3100,gpu-box"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(variable: str, text: str) -> None:
    with pytest.raises(InputInvalid, match=f"^{variable}: "):
        RouterSettings.load({variable: text})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "box.example"])
def test_an_address_that_others_reach_is_known_as_such(host: str) -> None:
    assert reachable_hosts(RouterSettings(host=host)) == [("FABRIC_HOST", host)]


def test_a_loopback_address_is_reached_by_nobody_else() -> None:
    assert [reachable_hosts(RouterSettings(host=host)) for host in ("127.0.0.1", "::1", "localhost")] == [[], [], []]


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ({}, "http://127.0.0.1:3001"),
        ({"FABRIC_HOST": "::1", "FABRIC_PORT": "4000"}, "http://[::1]:4000"),
        ({"FABRIC_PORT": "0"}, ""),
        ({"FABRIC_HOST": "0.0.0.0"}, ""),
        ({"FABRIC_HOST": "0.0.0.0", "FABRIC_PUBLIC_URL": "https://fabric.example/x/"}, "https://fabric.example/x"),
    ],
)
def test_urls_that_are_given_out_begin_where_clients_reach_the_router(given: dict[str, str], base: str) -> None:
    assert RouterSettings.load(given).public_base == base


def test_assets_are_kept_beside_the_database_unless_another_place_is_named() -> None:
    assert RouterSettings.load({"FABRIC_DATA_DIR": "/x"}).assets_place == "/x/assets"
    assert RouterSettings.load({"FABRIC_ASSETS_URL": "s3://bucket/x"}).assets_place == "s3://bucket/x"


def test_keys_do_not_show_in_the_settings_text() -> None:
    assert KEY not in repr(RouterSettings(api_keys=(KEY,)))


def test_a_taken_port_is_refused_with_what_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} on 127.0.0.1 is taken: .*--port or FABRIC_PORT"):
            bind(RouterSettings(port=port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InputInvalid, match=r"cannot listen on '192\.0\.2\.1'"):
        bind(RouterSettings(host="192.0.2.1", port=0, api_keys=(KEY,)))


def test_a_free_port_is_listened_on() -> None:
    with bind(RouterSettings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        pass


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"FABRIC_GRPC_HOST": "0.0.0.0"}, "FABRIC_GRPC_HOST: is '0.0.0.0', which other machines can reach: set"),
        (
            {"FABRIC_GRPC_HOST": "0.0.0.0", "FABRIC_API_KEYS": KEY},
            "FABRIC_GRPC_CERTIFICATE and FABRIC_GRPC_PRIVATE_KEY",
        ),
        ({"FABRIC_GRPC_CERTIFICATE": "/c.pem"}, "FABRIC_GRPC_PRIVATE_KEY: is missing beside FABRIC_GRPC_CERTIFICATE"),
        ({"FABRIC_GRPC_PRIVATE_KEY": "/k.pem"}, "FABRIC_GRPC_CERTIFICATE: is missing beside FABRIC_GRPC_PRIVATE_KEY"),
        ({"FABRIC_GRPC_PORT": "65536"}, "FABRIC_GRPC_PORT: is 65536"),
    ],
)
def test_the_grpc_door_is_open_to_others_with_keys_and_tls_only(given: dict[str, str], wrong: str) -> None:
    with pytest.raises(InputInvalid, match=wrong):
        RouterSettings.load(given)


def test_the_grpc_door_with_keys_and_tls_may_be_reached() -> None:
    given = {"FABRIC_GRPC_HOST": "0.0.0.0", "FABRIC_API_KEYS": KEY, "FABRIC_GRPC_PORT": "4000"}
    tls = {"FABRIC_GRPC_CERTIFICATE": "/c.pem", "FABRIC_GRPC_PRIVATE_KEY": "/k.pem"}
    settings = RouterSettings.load({**given, **tls})
    assert (settings.grpc_host, settings.grpc_port, settings.grpc_certificate) == ("0.0.0.0", 4000, Path("/c.pem"))
