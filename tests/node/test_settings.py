"""The settings of a node: where they come from, and what is refused."""

from pathlib import Path

import pytest

from node.settings import NodeSettings
from protos.errors import InputInvalid


def test_the_command_line_goes_before_the_environment_and_that_before_the_default() -> None:
    environ = {"FABRIC_NODE_THREADS": "3", "FABRIC_NODE_NODE_ID": "a", "FABRIC_NODE_DATA_DIR": "/d", "PATH": "x"}
    settings = NodeSettings.load(environ, {"node_id": "b", "listen": None})
    assert (settings.threads, settings.node_id, settings.data_dir) == (3, "b", Path("/d"))
    assert settings.listen == "127.0.0.1:3100"


def test_an_unknown_setting_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputInvalid, match=r"FABRIC_NODE_THREAD: .*FABRIC_NODE_THREADS"):
        NodeSettings.load({"FABRIC_NODE_THREAD": "3"})


def test_a_value_of_another_type_is_named() -> None:
    with pytest.raises(InputInvalid, match="FABRIC_NODE_THREADS: is 'two': give int"):
        NodeSettings.load({"FABRIC_NODE_THREADS": "two"})


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:3100", "localhost:1", "[::1]:3100", "127.8.8.8:0", "unix:/run/node.sock"]
)
def test_loopback_and_unix_sockets_are_listened_on(listen: str) -> None:
    assert NodeSettings(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:3100", "[::]:3100", "10.1.2.3:3100", "example.org:3100"])
def test_an_address_that_others_reach_is_refused(listen: str) -> None:
    with pytest.raises(InputInvalid, match="listens on loopback"):
        NodeSettings(listen=listen)


@pytest.mark.parametrize("listen", ["3100", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:http", ":3100"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(InputInvalid, match="listen: is"):
        NodeSettings(listen=listen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"},
        {"quantum_s": 0},
        {"threads": -1},
        {"stall_s": 0},
        {"hang_s": -1},
        {"node_id": ""},
        {"memory_bytes": -1},
    ],
)
def test_a_value_out_of_range_is_named_with_its_variable(wrong: dict[str, object]) -> None:
    with pytest.raises(InputInvalid, match=f"FABRIC_NODE_{next(iter(wrong)).upper()}"):
        NodeSettings(**wrong)  # type: ignore[arg-type]


def test_each_node_of_several_has_a_trace_of_its_own() -> None:
    paths = [NodeSettings(trace="/t/trace.jsonl", node_id=f"node-{number}").trace_path for number in range(2)]
    assert paths == [Path("/t/trace.jsonl"), Path("/t/trace-node-1.jsonl")]
