"""`fabric-node keys` on a data directory: for the first key, and while no router runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protos.errors import Conflict, InputInvalid, NotFound
from router.commands import app
from router.store.lock import FileLock


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    """What it wrote to standard output and to standard error."""
    result = CliRunner().invoke(app, ["keys", *arguments, "--data", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_the_first_key_is_an_administrator_s_and_its_secret_stands_alone(tmp_path: Path) -> None:
    out, told = run(tmp_path, "create", "--name", "root")
    assert out.startswith("fab_")
    assert len(out.split()) == 1
    assert "organization * may: admin" in told
    (line,) = run(tmp_path, "list")[0].splitlines()
    assert out[:12] in line
    assert out.strip() not in line
    assert line.endswith("never used  admin  root")


def test_a_key_of_an_organization_may_work_there(tmp_path: Path) -> None:
    assert "organization acme may: jobs:*" in run(tmp_path, "create", "--name", "ci", "--organization", "acme")[1]
    told = run(tmp_path, "create", "--name", "look", "--organization", "acme", "--scope", "jobs:read")[1]
    assert told.endswith("may: jobs:read\n")


def test_a_disabled_key_is_shown_as_such(tmp_path: Path) -> None:
    key_id = run(tmp_path, "create", "--name", "root")[1].split()[0]
    assert "disabled" in run(tmp_path, "disable", key_id)[0]
    assert "disabled" in run(tmp_path, "list")[0]
    with pytest.raises(NotFound):
        run(tmp_path, "disable", "key_of_nobody")


@pytest.mark.parametrize("wrong", [("--organization", "a b"), ("--scope", "jobs:fly")])
def test_what_there_cannot_be_is_refused(tmp_path: Path, wrong: tuple[str, str]) -> None:
    with pytest.raises(InputInvalid):
        run(tmp_path, "create", "--name", "x", *wrong)


def test_while_a_router_runs_its_own_door_is_named(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "fabric.db")
    lock.acquire()
    try:
        with pytest.raises(Conflict, match="use its own /v1/api-keys"):
            run(tmp_path, "list")
    finally:
        lock.release()
