"""The scripts that a newcomer and CI run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [*(path for path in (ROOT / "scripts").iterdir() if path.is_file()), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_and_parses(script: Path) -> None:
    assert script.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", script], check=True, timeout=60)


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "\nscripts/run\n" in readme
    assert "\nscripts/test\n" in readme
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec scripts/test")
