"""Sends what is due, some at a time, and stores what became of it. A target that is slow or silent holds up nobody else.

What was sent and not yet stored when the router dies is sent again: at least once, with the same id. Not about what is
due after a failure (schedule.py) nor what is sent (messages.py).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from protos.errors import FabricError, Overloaded
from router.jobs import Json
from router.outbound import Outbound
from router.store import attempts
from router.store import deliveries as table
from router.store.attempts import Attempted, Material, Rooms, Standing
from router.store.base import Records
from router.store.deliveries import BATCH, Delivery, DeliveryStatus
from router.store.webhooks import Webhook
from router.vault import Vault
from router.webhooks.messages import WITH_JOB, Dialect, Shapes, message
from router.webhooks.rounds import Rounds
from router.webhooks.schedule import (
    FAIRSTACK_SCHEDULE,
    GIVE_UP_AFTER_S,
    SCHEDULE,
    Again,
    Answer,
    Circuit,
    Delivered,
    GivenUp,
    Verdict,
    judged,
    retry_after_s,
)

log = logging.getLogger(__name__)

AT_ONCE: Final = 64  # calls, to all targets
AT_ONCE_PER_TARGET: Final = 8
_FINISH_S: Final = 2.0  # for calls under way when the router ends; what does not answer by then is sent again


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, as arguments: UTC seconds, and a number from 0 to 1."""

    now: Callable[[], float]
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sendable:
    """One attempt, ready to be made."""

    url: str
    shown: Json  # the event, in the delivery's dialect
    sealed_secret: str
    delays: Sequence[float]


class Deliverer:
    """Lives on one event loop, between `start` and `close`."""

    def __init__(
        self,
        records: Records,
        outbound: Outbound,
        vault: Vault,
        *,
        shapes: Shapes,
        timeout_s: float,
        clock: Clock,
        on_attempt: Callable[[DeliveryStatus], None],
    ) -> None:
        self._records, self._outbound, self._vault = records, outbound, vault
        self._shapes, self._timeout_s, self._clock = shapes, timeout_s, clock
        self._on_attempt = on_attempt
        self._running: dict[str, asyncio.Task[None]] = {}  # by delivery
        self._targets: dict[str, int] = {}  # how many of those that run go to each
        self._circuits: dict[str, Circuit] = {}  # of targets that did not answer lately
        self._rounds = Rounds("webhook-deliverer", self._round)

    def start(self) -> None:
        self._rounds.start()

    def wake(self) -> None:
        self._rounds.wake()

    async def close(self) -> None:
        await self._rounds.close()
        running = set(self._running.values())
        if running:
            _, late = await asyncio.wait(running, timeout=_FINISH_S)
            for task in late:
                task.cancel()
            await asyncio.wait(running)

    # ---- choosing ----

    async def _round(self) -> float | None:
        now = self._clock.now()
        work = await self._records.look(attempts.work(self._rooms(now), now, WITH_JOB))
        waiting = {standing.target for standing in work.standings}
        self._circuits = {target: circuit for target, circuit in self._circuits.items() if target in waiting}
        for delivery, material in work.due:
            self._begin(delivery, material)
        return self._next_s(work.standings, now)

    def _rooms(self, now: float) -> Rooms:
        known = self._targets.keys() | self._circuits.keys()
        rooms = {
            target: self._circuits.get(target, Circuit()).room(AT_ONCE_PER_TARGET, self._targets.get(target, 0), now)
            for target in known
        }
        total = AT_ONCE - len(self._running)
        return Rooms(total=total, usual=AT_ONCE_PER_TARGET, of=rooms, taken=frozenset(self._running))

    def _next_s(self, standings: Sequence[Standing], now: float) -> float | None:
        """When to look again, if nothing wakes us: an attempt that ends does."""
        moments = [
            max(standing.due_at, self._circuits.get(standing.target, Circuit()).rests_until) for standing in standings
        ]
        ahead = [moment for moment in moments if moment > now]
        return min(ahead) - now if ahead else None

    # ---- doing ----

    def _begin(self, delivery: Delivery, material: Material) -> None:
        self._targets[delivery.target] = self._targets.get(delivery.target, 0) + 1
        task = asyncio.create_task(self._attempt(delivery, material), name=f"webhook-{delivery.id}")
        self._running[delivery.id] = task

    async def _attempt(self, delivery: Delivery, material: Material) -> None:
        try:
            await self._settle(delivery, await self._outcome(delivery, material))
        except Exception:  # the top of a runner: the delivery stays due, and the log says why
            log.exception("delivery %s failed: it is tried again", delivery.id)
            self._note(delivery.target, Answer(None), self._clock.now())  # so that it rests, after some of them
        finally:
            del self._running[delivery.id]
            self._targets[delivery.target] -= 1
            if not self._targets[delivery.target]:
                del self._targets[delivery.target]
            self._rounds.wake()

    async def _outcome(self, delivery: Delivery, material: Material) -> Attempted:
        sendable = _sendable(delivery, material, self._shapes)
        if isinstance(sendable, str):
            return Attempted(status=DeliveryStatus.FAILED, due_at=None, status_code=None, error=sendable)
        answer = await self._send(delivery, sendable)
        now = self._clock.now()
        self._note(delivery.target, answer, now)
        verdict = judged(answer, delivery.attempts + 1, sendable.delays, now, self._clock.jitter())
        return _attempted(verdict, answer.status)

    def _note(self, target: str, answer: Answer, now: float) -> None:
        circuit = self._circuits.pop(target, Circuit()).after(answer, now)
        if not circuit.is_fine:
            self._circuits[target] = circuit

    async def _send(self, delivery: Delivery, sendable: Sendable) -> Answer:
        try:
            secret = self._vault.open(sendable.sealed_secret)
            sent = message(delivery, sendable.shown, secret, self._clock.now())
            status, headers = await self._outbound.post(sendable.url, sent.body, sent.headers, self._timeout_s)
        except FabricError as error:
            return Answer(None, error.message)
        return Answer(status, retry_after_s=retry_after_s(headers, self._clock.now()))

    async def _settle(self, delivery: Delivery, attempted: Attempted) -> None:
        """Waits for the database as long as it takes: what is not stored is sent again."""
        while True:
            try:
                disabled = await self._records.change(attempts.settle(delivery, attempted, GIVE_UP_AFTER_S))
                break
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s or 1.0)
        self._on_attempt(attempted.status)
        if attempted.status is DeliveryStatus.FAILED:
            log.warning("%s of %s is given up: %s", delivery.kind, delivery.job_id, attempted.error)
        if disabled and delivery.webhook_id is not None:
            log.warning("webhook %s is disabled: %s", delivery.webhook_id, attempted.error)
            await fail_pending(self._records, delivery.webhook_id, DISABLED)


DISABLED: Final = "the webhook is disabled: enable it, and redeliver"


async def fail_pending(records: Records, webhook_id: str, why: str) -> None:
    while await records.change(attempts.fail_pending(webhook_id, why)) == BATCH:
        pass


async def sweep(records: Records, now: float, retention_s: float) -> None:
    """Deletes what ended long ago, and ends what has waited for too long."""
    while await records.change(table.delete_ended(now - retention_s)) == BATCH:
        pass
    while (
        await records.change(attempts.fail_older(now - GIVE_UP_AFTER_S, "the target did not answer for days")) == BATCH
    ):
        pass


# ---- deciding; pure ----


def _sendable(delivery: Delivery, material: Material, shapes: Shapes) -> Sendable | str:
    """What to send and where, or why there is nothing to send."""
    webhook = material.webhook
    url = webhook.url if webhook is not None else delivery.url
    if url is None:
        return "the webhook was deleted"
    if webhook is not None and not webhook.active:
        return DISABLED
    if (shown := _shown(delivery, material, shapes)) is None:
        return "the event is no longer stored"
    if material.sealed_secret is None:
        return "the organization has no secret to sign with: POST /v1/organizations/{org}/webhook-secret/rotate"
    return Sendable(url, shown, material.sealed_secret, _delays(delivery, webhook))


def _shown(delivery: Delivery, material: Material, shapes: Shapes) -> Json | None:
    if material.event is None:
        return None
    match Dialect(delivery.dialect):
        case Dialect.FABRIC:
            return shapes.event(material.event)
        case Dialect.FAIRSTACK:
            if material.job is None:
                return None
            return shapes.generation(material.event, material.job, material.cost_micro)


def _delays(delivery: Delivery, webhook: Webhook | None) -> Sequence[float]:
    if webhook is not None:
        return SCHEDULE[: webhook.max_retries + 1]
    return FAIRSTACK_SCHEDULE if delivery.dialect == Dialect.FAIRSTACK else SCHEDULE


def _attempted(verdict: Verdict, status_code: int | None) -> Attempted:
    match verdict:
        case Delivered():
            return Attempted(status=DeliveryStatus.DELIVERED, due_at=None, status_code=status_code, error=None)
        case Again(due_at, why):
            return Attempted(status=DeliveryStatus.PENDING, due_at=due_at, status_code=status_code, error=why)
        case GivenUp(why, disables):
            return Attempted(
                status=DeliveryStatus.FAILED,
                due_at=None,
                status_code=status_code,
                error=why,
                disables=why if disables else None,
            )
        case _:
            assert_never(verdict)
