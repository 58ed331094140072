"""From an event in the store to a request at a real receiver, with a clock that is moved by hand."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from fabric_platform.webhooks import construct_event
from hooked import KEY, OTHER_ORGANIZATION, Hooked, hooked, wanted
from receiver import BOUND_S, Receiver, Reply, receiving
from scripted import ORGANIZATION, ManualClock
from standardwebhooks.webhooks import Webhook as StandardWebhook

from protos.errors import Conflict, NotFound, QuotaExceeded
from router.store.deliveries import DeliveryStatus
from router.targets import Allowed, TargetRefused
from router.webhooks.deliverer import AT_ONCE_PER_TARGET, Clock
from router.webhooks.hooks import Changes
from router.webhooks.messages import Dialect
from router.webhooks.schedule import FAIRSTACK_SCHEDULE, GIVE_UP_AFTER_S, SCHEDULE

ROOT: Final = Path(__file__).parents[3]
DELIVERED, FAILED, PENDING = DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.PENDING


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def by_hand(clock: ManualClock) -> Clock:
    return Clock(clock, lambda: 0.0)


@pytest.fixture
async def box(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Hooked]:
    async with hooked(tmp_path, by_hand(clock)) as box:
        yield box


async def later(box: Hooked, clock: ManualClock, seconds: float) -> None:
    clock.now += seconds
    box.hooks.wake()


# ---- what is sent ----


async def test_each_event_that_matches_is_sent_once_and_verified_by_the_official_client(
    box: Hooked, receiver: Receiver
) -> None:
    webhook, secret = await box.add(receiver.url(), "job.*")
    job = await box.ended()
    got = await receiver.until(2)
    assert sorted(receiver.events) == ["job.cancelled", "job.created"]
    for each in got:
        event = construct_event(each.body, each.headers["x-fabric-signature"], secret)
        assert (event.kind, event.job_id, event.organization_id) == (each.event, job.id, ORGANIZATION)
        assert event.id == each.headers["webhook-id"]
    stored = await box.until(lambda found: all(each.status is DELIVERED for each in found))
    assert {each.id for each in stored} == {each.headers["x-fabric-delivery"] for each in got}
    assert {(each.webhook_id, each.attempts, each.status_code) for each in stored} == {(webhook.id, 1, 200)}


async def test_the_standard_library_verifies_what_was_sent_now(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path) as box:  # by the system's clock: the library compares with it
        _, secret = await box.add(receiver.url(), "job.created")
        job = await box.ended()
        got = (await receiver.until(1))[0]
    assert StandardWebhook(secret).verify(got.body, dict(got.headers))["job_id"] == job.id


async def test_filters_hold_back_what_was_not_asked_for(box: Hooked, receiver: Receiver) -> None:
    await box.add(receiver.url("/ends"), "job.cancelled", "job.failed")
    await box.add(receiver.url("/moon"), "*", resource_filter={"metadata.project": "moon", "modality": "text"})
    await box.ended(metadata={"project": "sun"})
    await box.ended(metadata={"project": "moon"})
    got = await receiver.until(4)
    assert Counter((each.path, each.event) for each in got) == {
        ("/ends", "job.cancelled"): 2,
        ("/moon", "job.created"): 1,
        ("/moon", "job.cancelled"): 1,
    }


async def test_a_webhook_gets_nothing_of_before_it_was_made_nor_of_other_organizations(
    box: Hooked, receiver: Receiver
) -> None:
    await box.ended()
    await box.add(receiver.url(), "job.cancelled")
    await box.ended(organization_id=OTHER_ORGANIZATION)
    job = await box.ended()
    got = await receiver.until(1)
    await box.settled(1)
    assert [each.headers["webhook-id"] for each in got] == [f"evt_{job.id.removeprefix('job_')}_2"]
    assert len(await box.deliveries()) == 1


# ---- at least once ----


@pytest.mark.rounds(1)
async def test_a_restart_delivers_exactly_what_was_missed(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path) as box:
        await box.add(receiver.url(), "job.cancelled")
        told = await box.ended()
        await box.settled(1)
        await box.hooks.close()  # from here on events are stored and nobody hands them over
        missed = [await box.ended() for _ in range(3)]
    async with hooked(tmp_path) as box:
        await box.settled(4)
    ids = [each.headers["webhook-id"] for each in receiver.received]
    assert sorted(ids) == [f"evt_{job.id.removeprefix('job_')}_2" for job in (told, *missed)]


@pytest.mark.rounds(1)
async def test_a_router_killed_before_it_stored_the_answer_sends_again_with_the_same_id(
    tmp_path: Path, receiver: Receiver
) -> None:
    never = asyncio.Event()
    receiver.replies.extend([Reply(), Reply(after=never)])
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    program = [sys.executable, str(ROOT / "tests" / "support" / "hooked.py"), str(tmp_path), receiver.url(), KEY]
    with subprocess.Popen(program, env=environment) as process:
        try:
            first, second = [each.headers["webhook-id"] for each in await receiver.until(2)]
        finally:
            process.kill()  # -9, while the second request is not answered
    async with hooked(tmp_path) as box:
        stored = await box.until(lambda found: [each.status for each in found] == [DELIVERED] * 2)
    assert {each.event_id for each in stored} == {first, second}
    sent = Counter(each.headers["webhook-id"] for each in receiver.received)
    assert sent[second] == 2  # the first may be there twice too: its answer and the kill race
    assert sent.keys() == {first, second}


# ---- what receivers answer ----


async def test_a_failure_is_tried_again_on_schedule_with_the_same_id_and_a_new_signature(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    await box.add(receiver.url(), "job.cancelled")
    receiver.replies.extend([Reply(500), Reply(503)])
    await box.ended()
    (waiting,) = await box.settled(1)
    assert (waiting.status, waiting.attempts, waiting.status_code) == (PENDING, 1, 500)
    assert waiting.due_at == clock.now + SCHEDULE[1]
    await later(box, clock, SCHEDULE[1])
    (waiting,) = await box.until(lambda found: found[0].attempts == 2)
    assert waiting.due_at == clock.now + SCHEDULE[2]
    await later(box, clock, SCHEDULE[2])
    (done,) = await box.until(lambda found: found[0].status is DELIVERED)
    assert (done.attempts, done.error) == (3, None)
    headers = [each.headers for each in receiver.received]
    assert len({each["webhook-id"] for each in headers}) == 1
    assert len({each["webhook-signature"] for each in headers}) == 3
    assert len({each.body for each in receiver.received}) == 1


async def test_retry_after_is_honoured(box: Hooked, receiver: Receiver, clock: ManualClock) -> None:
    await box.add(receiver.url(), "job.cancelled")
    receiver.replies.append(Reply(429, {"retry-after": "3600"}))
    await box.ended()
    (waiting,) = await box.settled(1)
    assert waiting.due_at == clock.now + 3600.0


async def test_a_redirect_is_a_failure_and_not_followed(box: Hooked, receiver: Receiver) -> None:
    await box.add(receiver.url(), "job.cancelled", max_retries=0)
    receiver.replies.append(Reply(302, {"location": "/elsewhere"}))
    await box.ended()
    (failed,) = await box.settled(1)
    assert (failed.status, failed.status_code) == (FAILED, 302)
    assert "a redirect, which is not followed" in str(failed.error)
    assert [each.path for each in receiver.received] == ["/hook"]


async def test_after_max_retries_it_is_given_up(box: Hooked, receiver: Receiver, clock: ManualClock) -> None:
    await box.add(receiver.url(), "job.cancelled", max_retries=1)
    receiver.otherwise = Reply(500)
    await box.ended()
    await box.settled(1)
    await later(box, clock, SCHEDULE[1])
    (failed,) = await box.until(lambda found: found[0].status is FAILED)
    assert (failed.attempts, failed.due_at, failed.error) == (2, None, "it answered 500; it was tried 2 times")


async def test_410_disables_the_webhook_and_ends_what_waits_for_it(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled")
    receiver.replies.extend([Reply(500), Reply(410)])
    await box.ended()
    await box.settled(1)
    await box.ended()
    await box.until(lambda found: [each.status for each in found] == [FAILED, FAILED])
    webhook = await box.hooks.one(webhook.id, ORGANIZATION)
    assert (webhook.active, webhook.disabled_reason) == (False, "it answered 410: it wants no more")
    await box.ended()
    await later(box, clock, 10 * SCHEDULE[-1])
    job = await box.ended(organization_id=OTHER_ORGANIZATION)
    assert len(receiver.received) == 2
    assert job.id not in {each.job_id for each in await box.deliveries()}


async def test_a_webhook_that_fails_for_days_is_disabled(box: Hooked, receiver: Receiver, clock: ManualClock) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled")
    receiver.otherwise = Reply(500)
    await box.ended()
    await box.settled(1)
    clock.now += GIVE_UP_AFTER_S
    await box.ended()
    await box.until(lambda found: [each.status for each in found] == [FAILED, FAILED])
    assert "no delivery has succeeded for 5 days" in str((await box.hooks.one(webhook.id, None)).disabled_reason)


async def test_a_success_forgets_earlier_failures(box: Hooked, receiver: Receiver, clock: ManualClock) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled")
    receiver.replies.append(Reply(500))
    await box.ended()
    await box.settled(1)
    assert (await box.hooks.one(webhook.id, None)).failing_since == clock.now
    await later(box, clock, SCHEDULE[1])
    await box.until(lambda found: found[0].status is DELIVERED)
    assert (await box.hooks.one(webhook.id, None)).failing_since is None


# ---- targets among each other ----


async def test_a_slow_target_is_bounded_and_holds_up_nobody_else(box: Hooked, receiver: Receiver) -> None:
    release = asyncio.Event()
    receiver.otherwise = Reply(after=release)
    async with receiving() as quick:
        await box.add(receiver.url(), "job.cancelled")
        await box.add(quick.url(), "job.cancelled")
        jobs = 3 * AT_ONCE_PER_TARGET
        for _ in range(jobs):
            await box.ended()
        await quick.until(jobs)
        await receiver.until(AT_ONCE_PER_TARGET)
        assert len(receiver.received) == AT_ONCE_PER_TARGET
        release.set()
        await receiver.until(jobs)
    assert receiver.most_at_once == AT_ONCE_PER_TARGET
    assert len({each.headers["webhook-id"] for each in receiver.received}) == jobs


async def test_a_target_that_nobody_answers_at_is_left_alone_then_probed(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    port = receiver.port
    await box.add("http://127.0.0.1:9/hook", "job.cancelled")  # nothing listens on the port of discard
    for _ in range(12):
        await box.ended()
    found = await box.settled(5)
    await box.add(f"http://127.0.0.1:{port}/hook", "job.cancelled")
    await box.ended()  # and its delivery to the other target shows that the deliverer has looked at both
    await receiver.until(1)
    found = [each for each in await box.deliveries() if each.target == "127.0.0.1:9"]
    tried = [each for each in found if each.attempts]
    assert 5 <= len(tried) < 5 + AT_ONCE_PER_TARGET
    assert "cannot be called" in str(tried[0].error)
    await later(box, clock, 10.0)
    after = await box.until(
        lambda found: sum(each.attempts for each in found if each.target.endswith(":9")) > len(tried)
    )
    assert sum(each.attempts for each in after if each.target.endswith(":9")) == len(tried) + 1


async def test_what_leads_to_a_private_address_is_refused_when_made_and_when_called(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with hooked(tmp_path) as box:
        await box.add(receiver.url(), "job.cancelled", max_retries=0)
    async with hooked(tmp_path, allowed=Allowed()) as box:  # the setting was taken back
        with pytest.raises(TargetRefused, match=r"url: .*127.0.0.1, a loopback address"):
            await box.add(receiver.url(), "job.cancelled")
        await box.ended()
        (failed,) = await box.settled(1)
    assert "a loopback address: only public addresses are called" in str(failed.error)
    assert receiver.received == []


# ---- what callers do with them ----


async def test_redeliver_sends_the_same_event_as_a_new_delivery(box: Hooked, receiver: Receiver) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled", max_retries=0)
    receiver.replies.append(Reply(500))
    await box.ended()
    (failed,) = await box.settled(1)
    again = await box.hooks.redeliver(webhook.id, ORGANIZATION, failed.id)
    first, second = await receiver.until(2)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert second.headers["x-fabric-delivery"] == again.id != failed.id
    await box.until(lambda found: [each.status for each in found] == [FAILED, DELIVERED])
    with pytest.raises(NotFound, match="there is no delivery 'dlv_x'"):
        await box.hooks.redeliver(webhook.id, ORGANIZATION, "dlv_x")
    await box.hooks.change(webhook.id, ORGANIZATION, Changes(active=False))
    with pytest.raises(Conflict, match="is disabled: enable it first"):
        await box.hooks.redeliver(webhook.id, ORGANIZATION, failed.id)


async def test_a_disabled_webhook_misses_what_happens_and_an_enabled_one_begins_anew(
    box: Hooked, receiver: Receiver
) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled")
    await box.hooks.change(webhook.id, None, Changes(active=False))
    await box.ended()
    await box.hooks.change(webhook.id, None, Changes(active=True))
    job = await box.ended()
    await box.settled(1)
    assert [each.job_id for each in await box.deliveries()] == [job.id]


async def test_what_waits_goes_to_the_new_url_signed_with_the_new_secret(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    webhook, _ = await box.add("http://127.0.0.1:9/gone", "job.cancelled")
    await box.ended()
    await box.settled(1)
    secret = "whsec_" + "A" * 43 + "="
    await box.hooks.change(webhook.id, None, Changes(url=receiver.url("/new"), secret=secret))
    await later(box, clock, SCHEDULE[1])
    (got,) = await receiver.until(1)
    assert got.path == "/new"
    assert construct_event(got.body, got.headers["x-fabric-signature"], secret)


async def test_a_deleted_webhook_takes_its_deliveries_along(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    webhook, _ = await box.add(receiver.url(), "job.cancelled")
    receiver.replies.append(Reply(500))
    await box.ended()
    await box.settled(1)
    await box.hooks.remove(webhook.id, ORGANIZATION)
    assert await box.deliveries() == []
    await later(box, clock, SCHEDULE[1])
    with pytest.raises(NotFound, match="there is no webhook"):
        await box.hooks.one(webhook.id, ORGANIZATION)


async def test_another_organizations_webhook_is_not_found(box: Hooked, receiver: Receiver) -> None:
    webhook, _ = await box.add(receiver.url())
    for attempt in (
        box.hooks.one(webhook.id, OTHER_ORGANIZATION),
        box.hooks.change(webhook.id, OTHER_ORGANIZATION, Changes(active=False)),
        box.hooks.remove(webhook.id, OTHER_ORGANIZATION),
        box.hooks.deliveries(webhook.id, OTHER_ORGANIZATION, 10, 0),
        box.hooks.redeliver(webhook.id, OTHER_ORGANIZATION, "any"),
    ):
        with pytest.raises(NotFound, match="there is no webhook"):
            await attempt
    assert await box.hooks.listed(OTHER_ORGANIZATION) == []


async def test_an_organization_has_only_so_many(box: Hooked, receiver: Receiver) -> None:
    for _ in range(20):
        await box.add(receiver.url())
    with pytest.raises(QuotaExceeded, match="has 20 webhooks, its limit"):
        await box.add(receiver.url())
    await box.hooks.add(OTHER_ORGANIZATION, wanted(receiver.url()))


# ---- jobs with a webhook_url ----


async def test_a_jobs_own_url_gets_its_last_event_alone_signed_with_the_organizations_secret(
    box: Hooked, receiver: Receiver
) -> None:
    secret = await box.hooks.rotate_secret(ORGANIZATION)
    stored = await box.hooks.expect(ORGANIZATION, receiver.url())
    job = await box.ended(webhook_url=stored)
    await box.ended()
    await box.settled(1)
    (got,) = receiver.received
    event = construct_event(got.body, got.headers["x-fabric-signature"], secret)
    assert (event.kind, event.job_id) == ("job.cancelled", job.id)


async def test_a_rotated_secret_signs_what_comes_after(box: Hooked, receiver: Receiver) -> None:
    stored = await box.hooks.expect(ORGANIZATION, receiver.url())
    secrets = []
    for count in (1, 2):
        secrets.append(await box.hooks.rotate_secret(ORGANIZATION))
        await box.ended(webhook_url=stored)
        await receiver.until(count)
    for got, secret in zip(receiver.received, secrets, strict=True):
        assert construct_event(got.body, got.headers["x-fabric-signature"], secret)


@pytest.mark.rounds(1)
async def test_a_job_that_ends_after_a_restart_is_told_all_the_same(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path) as box:
        stored = await box.hooks.expect(ORGANIZATION, receiver.url())
        job = await box.ended(webhook_url=stored)  # its end may be handed over here or after the restart
    async with hooked(tmp_path) as box:
        await box.settled(1)
    assert receiver.received[0].headers["webhook-id"].endswith(job.id.removeprefix("job_") + "_2")


async def test_a_fairstack_job_is_told_in_its_dialect_and_retried_three_times(
    box: Hooked, receiver: Receiver, clock: ManualClock
) -> None:
    secret = await box.hooks.rotate_secret(ORGANIZATION)
    stored = await box.hooks.expect(ORGANIZATION, receiver.url(), Dialect.FAIRSTACK)
    receiver.otherwise = Reply(500)
    job = await box.ended(webhook_url=stored)
    await box.settled(1)
    for attempt, wait_s in enumerate(FAIRSTACK_SCHEDULE[1:], 2):
        await later(box, clock, wait_s)
        await box.until(lambda found, attempt=attempt: found[0].attempts == attempt)  # type: ignore[misc]
    (failed,) = await box.deliveries()
    assert (failed.status, failed.attempts) == (FAILED, 4)
    got = receiver.received[-1]
    assert '"event":"generation.failed"' in got.body.decode()
    assert job.id in got.body.decode()
    assert "x-fabric-signature" not in got.headers
    assert (
        StandardWebhook(secret).sign(
            got.headers["webhook-id"], _moment(got.headers["webhook-timestamp"]), got.body.decode()
        )
        == got.headers["webhook-signature"]
    )
    assert got.headers["x-fairstack-signature"].startswith("sha256=")


# ---- what is kept ----


async def test_no_secret_lies_on_the_disk_in_clear(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path) as box:
        _, secret = await box.add(receiver.url())
        rotated = await box.hooks.rotate_secret(ORGANIZATION)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in stored
    assert rotated.encode() not in stored


async def test_what_cannot_be_signed_any_more_says_so(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path) as box:
        await box.add(receiver.url(), "job.cancelled", max_retries=0)
    from cryptography.fernet import Fernet

    async with hooked(tmp_path, key=Fernet.generate_key().decode()) as box:
        await box.ended()
        (failed,) = await box.settled(1)
    assert failed.status is FAILED
    assert receiver.received == []


async def test_ended_deliveries_are_forgotten_after_their_time_and_old_pending_ones_end(
    tmp_path: Path, receiver: Receiver, clock: ManualClock
) -> None:
    receiver.replies.extend([Reply(), Reply(500)])
    async with hooked(tmp_path, by_hand(clock)) as box:
        await box.add(receiver.url(), "job.cancelled")
        await box.ended()
        await box.settled(1)
        clock.now += 3000.0
        await box.ended()
        await box.settled(2)
    clock.now += 1000.0
    receiver.otherwise = Reply(500)
    async with hooked(tmp_path, by_hand(clock)) as box:  # it sweeps when it opens
        (left,) = await box.until(lambda found: len(found) == 1)
        assert left.status is PENDING
    clock.now += GIVE_UP_AFTER_S + 1
    async with hooked(tmp_path, by_hand(clock)) as box:
        await box.until(lambda found: [each.status for each in found] == [FAILED])


async def test_an_organization_with_nobody_to_tell_is_left_at_the_next_start(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with hooked(tmp_path) as box:
        webhook, _ = await box.add(receiver.url(), "job.cancelled")
        await box.ended()
        await box.settled(1)
        await box.hooks.remove(webhook.id, None)
    async with hooked(tmp_path) as box:
        await box.ended()
        await box.add(receiver.url(), "job.cancelled")
        job = await box.ended()
        await box.settled(1)
        assert [each.job_id for each in await box.deliveries()] == [job.id]


async def test_a_burst_is_handed_over_in_pages_without_a_gap_or_a_repeat(box: Hooked, receiver: Receiver) -> None:
    await box.add(receiver.url(), "job.cancelled")
    async with asyncio.timeout(BOUND_S):
        jobs = await asyncio.gather(*(box.ended() for _ in range(120)))
    await receiver.until(120)
    await box.until(lambda found: sum(each.status is DELIVERED for each in found) == 120)
    assert len(receiver.received) == 120
    assert {each.job_id for each in await box.deliveries()} == {job.id for job in jobs}


def _moment(timestamp: str) -> datetime:
    return datetime.fromtimestamp(int(timestamp), UTC)
