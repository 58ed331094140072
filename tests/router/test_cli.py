"""How the `fabric-node` process ends: on a mistake, and on Ctrl-C before a command has begun."""

import signal
import subprocess
import sys

from box import ROOT


def test_a_mistake_is_one_line_and_status_2() -> None:
    command = [sys.executable, "-m", "router.cli", "up", "--once"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("fabric-node: --once: is given without --tour")
    assert ended.stderr.count("\n") == 1


def test_ctrl_c_while_modules_are_imported_ends_quietly() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "router.cli", "up", "--once"]
    # A pipe of one page: it cannot get far ahead of what is read here, and be done before it is interrupted.
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, pipesize=4096) as process:
        assert process.stderr is not None
        for line in process.stderr:  # -X importtime tells how far it has come
            if line.endswith(" protos.errors\n"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def test_a_node_and_the_command_line_start_without_an_http_client() -> None:
    """Its import takes a fifth of a second; the router alone calls others."""
    code = "import sys, router.commands, node.cli, node.daemon; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0
