"""Every line of the clients' pages about jobs, estimates, events, providers, webhooks, keys, secrets, usage and assets.

Run as printed, but for the base URL; the equivalent request where no client here is in that language or takes those
arguments. Not about the table itself (test_table.py).
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from clients.flat import Flat
from clients.running import Stage
from clients.sample import Curl, Python, Sample
from clients.samples.table import SAMPLES
from clients.world import World
from ulid import ULID

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDLESS = [each for each in SAMPLES if isinstance(each.how, Python) and each.how.prints]
WAITING = [each for each in SAMPLES if isinstance(each.how, Curl) and each.how.on_a_waiting_job]
PLAIN = [each for each in SAMPLES if each not in ENDLESS and each not in WAITING]


def rows(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=lambda sample: sample.id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(world: World, flat: Flat) -> AsyncIterator[Stage]:
    stage = Stage(world, flat, org=f"org-{ULID()}", other=f"org-{ULID()}")
    await world.edge.ended(await world.job(organization_id=stage.org))
    yield stage


@rows(PLAIN)
async def test_sample_works_as_printed(stage: Stage, sample: Sample) -> None:
    found = await stage.run(sample)
    assert sample.check(found), found
    if sample.is_repeatable:
        assert (await stage.run(sample))["id"] == found["id"]


@rows(ENDLESS)
async def test_sample_without_an_end_follows_what_happens(stage: Stage, sample: Sample) -> None:
    following = asyncio.create_task(stage.run(sample))
    await stage.world.jobs_until(following)
    assert sample.check(following.result()), following.result()


@rows(WAITING)
@pytest.mark.usefixtures("closed_gate")
async def test_sample_about_a_job_that_has_not_ended(stage: Stage, sample: Sample) -> None:
    found = await stage.run(sample)
    assert sample.check(found), found
