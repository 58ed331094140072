"""kill -9 in the middle of writes: what was acknowledged is there, and each job has at most one end."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from scripted import LANE, ORGANIZATION, claimed

from router.jobs import JobEvent, JobState
from router.store.base import Ending
from router.store.sql import SqlStore

ROOT: Final = Path(__file__).parents[3]
KILLS: Final = 4


def killed_after(lines: int, path: Path) -> list[tuple[str, str]]:
    """Runs a storm of writes, kills it after so many acknowledged ones; all (word, job id) that it told."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    command = [sys.executable, str(ROOT / "tests" / "support" / "storm.py"), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += process.stdout.readlines()
    return [(word, job_id) for word, job_id in (line.split() for line in told if line.endswith("\n"))]


def ignore(_events: Sequence[JobEvent]) -> None: ...


@pytest.mark.rounds(1)
async def test_nothing_acknowledged_is_lost_and_each_job_ends_once(tmp_path: Path, round_number: int) -> None:
    path, dice = tmp_path / "jobs.db", random.Random(round_number)
    told = [line for _ in range(KILLS) for line in killed_after(dice.randint(50, 300), path)]
    store = SqlStore(f"sqlite:///{path}", ignore)
    await store.open()
    while leases := await claimed(store, {LANE: 500}, 60.0):
        for lease in leases:
            await store.finish(lease, Ending(state=JobState.FAILED, error={"code": "internal", "message": "cleanup"}))

    events = await store.events_of_organization(ORGANIZATION, 0, 10**6)
    ends = Counter(event.job_id for event in events if event.is_terminal)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    assert set(ends.values()) == {1}
    assert ends.keys() == {event.job_id for event in events}
    assert {word for word, _ in told} == {"created", "ended"}
    for word, job_id in told:
        job = await store.get(job_id)  # type: ignore[arg-type]  # from the other process's lines
        assert job is not None, f"{job_id} was acknowledged and is lost"
        if word == "ended":
            assert job.state is JobState.COMPLETED
    await store.close()
