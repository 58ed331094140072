"""The supervisor of `fabric-node up`: when it restarts a child, and when a child's end is the end of all."""

import asyncio
import time
from pathlib import Path

import pytest

from router.supervisor import EXIT_CONFIGURATION, ChildSpec, Supervisor, restart_delay_s

MISTAKEN = ("router.cli", "up", "--once")  # a command that ends with a configuration error
BOUND_S = 60.0


def test_each_death_in_a_row_waits_longer_up_to_a_bound() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(1, 9)]
    assert delays == sorted(delays)
    assert (delays[0], delays[1], delays[-1]) == (0.5, 1.0, 15.0)


async def test_a_child_s_configuration_error_ends_all_and_is_shown_from_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "child.log"
    async with asyncio.timeout(BOUND_S):
        status = await Supervisor([ChildSpec("child", MISTAKEN, log)], time.monotonic).run()
    assert status == EXIT_CONFIGURATION
    assert capfd.readouterr().err == log.read_text()
    assert log.read_text().startswith("fabric-node: --once")


async def test_an_interrupt_before_the_children_run_ends_with_status_0() -> None:
    supervisor = Supervisor([ChildSpec("child", MISTAKEN)], time.monotonic)
    supervisor.interrupt()
    async with asyncio.timeout(BOUND_S):
        assert await supervisor.run() == 0
