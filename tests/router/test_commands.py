"""What `fabric-node up` refuses before it starts anything, in its own options' names."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from box import free_port
from protos.errors import FabricError
from router.commands import app


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refusal(data: Path, *options: str) -> str:
    """The message with which `up` ends at once."""
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    ended = CliRunner().invoke(app, ["up", *ports, "--data", str(data), *options])
    assert isinstance(ended.exception, FabricError), ended
    return ended.exception.message


@pytest.mark.parametrize(("devices", "wrong"), [("gpu7", "gpu7"), ("", ""), ("cpu,", ""), ("cuda:x", "cuda:x")])
def test_a_device_that_cannot_be_is_named_with_what_can(tmp_path: Path, devices: str, wrong: str) -> None:
    message = refusal(tmp_path, "--devices", devices)
    assert message == f"--devices: has {wrong!r}: give auto, cpu, or CUDA devices such as cuda:0,cuda:1"


def test_a_taken_node_port_says_by_which_option_to_change_it(tmp_path: Path, taken: int) -> None:
    message = refusal(tmp_path, "--devices", "cpu", "--node-port", str(taken))
    assert f"port {taken} on 127.0.0.1, for a node, is taken" in message
    assert "choose another with --node-port" in message


def test_the_second_node_s_port_is_checked_too(tmp_path: Path) -> None:
    message = refusal(tmp_path, "--devices", "cpu,cpu", "--node-port", "65535")
    assert message == "--node-port: gives the nodes ports up to 65536: the last is 65535"


def test_a_node_cannot_have_the_router_s_port(tmp_path: Path) -> None:
    port = str(free_port())
    assert "--node-port" in refusal(tmp_path, "--devices", "cpu", "--port", port, "--node-port", port)


def test_once_without_a_tour_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "--once").startswith("--once: is given without --tour")


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refusal(tmp_path / "file", "--tour", "--devices", "cpu", "--node-port", str(free_port()))
    assert message == f"{tmp_path}/file/logs cannot be written (Not a directory): name another folder with --data"


def test_a_taken_grpc_port_says_by_which_option_to_change_it(tmp_path: Path, taken: int) -> None:
    message = refusal(tmp_path, "--devices", "cpu", "--grpc-port", str(taken), "--node-port", str(free_port()))
    assert message == (
        f"port {taken} on 127.0.0.1 is taken: stop what listens there, or choose another "
        "with --grpc-port or FABRIC_GRPC_PORT"
    )


@pytest.mark.parametrize("command", ["up", "route"])
def test_the_help_tells_of_the_grpc_door(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160"}).output
    assert "--grpc-port" in shown
    assert "--grpc-host" in shown
