"""The table of states, and ids that sort by time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import a_job, a_request

from protos.errors import Conflict, JobTerminal
from protos.types import Modality
from router.jobs import NEXT, TERMINAL, TERMINAL_KIND, JobId, JobState, advance, first_id_at, new_job

A_JOB = JobId("job_1")


@pytest.mark.parametrize("now", JobState)
@pytest.mark.parametrize("to", JobState)
def test_a_job_moves_only_as_the_table_says(now: JobState, to: JobState) -> None:
    if to in NEXT.get(now, ()):
        assert advance(A_JOB, now, to) is to
    else:
        with pytest.raises(JobTerminal if now in TERMINAL else Conflict, match=A_JOB):
            advance(A_JOB, now, to)


def test_every_state_is_terminal_or_has_a_next() -> None:
    assert set(NEXT) | TERMINAL == set(JobState)
    assert set(TERMINAL_KIND) == TERMINAL


@given(st.integers(0, 2**48 - 2), st.integers(1, 2**20))
def test_ids_sort_by_time(milliseconds: int, later: int) -> None:
    first = milliseconds / 1000
    second = min(milliseconds + later, 2**48 - 1) / 1000
    assert first_id_at(first) <= first_id_at(second)


def test_the_first_id_of_a_moment_is_no_higher_than_that_of_a_job_made_then() -> None:
    job = new_job(a_request(), 1_700_000_000.123)
    assert first_id_at(1_700_000_000.123) <= job.id < first_id_at(1_700_000_000.125)


@pytest.mark.parametrize("moment", [-5.0, 0.0, 1e30])
def test_a_moment_out_of_range_has_a_bound_too(moment: float) -> None:
    assert len(first_id_at(moment)) == len(a_job().id)


def test_a_new_job_is_pending_and_shows_the_model_that_was_asked_for() -> None:
    job = a_job(model="parrot")
    assert (job.state, job.model, job.lane) == (JobState.PENDING, "parrot", "parrot")
    assert job.run_id.removeprefix("run_") == job.id.removeprefix("job_")


def test_jobs_that_name_no_model_wait_for_the_default_of_their_modality() -> None:
    assert a_job(modality=Modality.EMBEDDING).lane == "default:embedding"
