"""What is sent: the body and the headers of one attempt. Pure.

Each job's webhook_url has a dialect: that of the API the job came by. Not about when it is sent (deliverer.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from router.jobs import EventKind, Job, JobEvent, Json
from router.store.deliveries import Delivery
from router.store.rows import encoded
from router.webhooks import signing


class Dialect(StrEnum):
    FABRIC = "fabric"
    FAIRSTACK = "fairstack"


WITH_JOB: Final = frozenset({Dialect.FAIRSTACK.value})  # what it tells is the job


@dataclass(frozen=True, slots=True)
class Shapes:
    """An event as JSON, as each API shows it."""

    event: Callable[[JobEvent], Json]
    generation: Callable[[JobEvent, Job, int], Json]  # and what the job cost, in microdollars


_FAIRSTACK_PREFIX: Final = "fairstack+"  # before the stored webhook_url of a job that came by that API


def stored_hook(dialect: Dialect, url: str) -> str:
    """A job's webhook_url as its row has it."""
    return _FAIRSTACK_PREFIX + url if dialect is Dialect.FAIRSTACK else url


def split_hook(webhook_url: str) -> tuple[Dialect, str]:
    """The dialect and the URL of what `stored_hook` made."""
    url = webhook_url.removeprefix(_FAIRSTACK_PREFIX)
    return (Dialect.FABRIC if url == webhook_url else Dialect.FAIRSTACK), url


@dataclass(frozen=True, slots=True)
class Message:
    body: bytes
    headers: Mapping[str, str]


def message(delivery: Delivery, shown: Json, secret: str, now: float) -> Message:
    """`shown`: the event in the delivery's dialect. The same body for every attempt; the signatures of this one."""
    match Dialect(delivery.dialect):
        case Dialect.FABRIC:
            body = encoded({"id": delivery.event_id, **shown}).encode()
            named = {"x-fabric-event": delivery.kind, "x-fabric-delivery": delivery.id}
            signature = {"x-fabric-signature": signing.body_signature(body, secret)}
        case Dialect.FAIRSTACK:
            body = encoded(shown).encode()
            named = {"x-fairstack-event": fairstack_kind(EventKind(delivery.kind)), "x-fairstack-delivery": delivery.id}
            signature = {"x-fairstack-signature": signing.body_signature(body, secret)}
    standard = signing.standard_headers(delivery.event_id, body, secret, now)
    return Message(
        body, {"content-type": "application/json", "user-agent": _AGENT} | named | signature | dict(standard)
    )


def fairstack_kind(kind: EventKind) -> str:
    """That dialect knows two events: what did not complete has failed, cancelled ones included."""
    return "generation.completed" if kind is EventKind.COMPLETED else "generation.failed"


_AGENT: Final = "fabric-node-webhooks"
