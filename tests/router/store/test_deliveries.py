"""What runs for each event and each delivery walks indexes, whatever lies beside what it looks for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hooked import hooked
from scripted import ORGANIZATION
from sqlalchemy import Connection, event

from router.store import attempts, deliveries, handover, webhooks
from router.store.attempts import Attempted, Rooms
from router.store.deliveries import Delivery, DeliveryStatus

ENDED = Attempted(status=DeliveryStatus.FAILED, due_at=None, status_code=500, error="no", disables="why")
ROOMS = Rooms(total=64, usual=8, of={}, taken=frozenset())

WORK: dict[str, Callable[[Connection, Delivery], object]] = {
    "the next page of events": lambda connection, _: handover.next_page(ORGANIZATION, 200)(connection),
    "what is due": lambda connection, _: attempts.work(ROOMS, 1e12, frozenset({"fabric"}))(connection),
    "the end of an attempt": lambda connection, one: attempts.settle(one, ENDED, 1.0)(connection, 1.0),
    "what waits for a webhook": lambda connection, one: attempts.fail_pending(one.webhook_id or "", "")(
        connection, 1.0
    ),
    "what waits too long": lambda connection, _: attempts.fail_older(1.0, "why")(connection, 1.0),
    "what was kept long enough": lambda connection, _: deliveries.delete_ended(1.0)(connection, 1.0),
    "a webhook's deliveries": lambda connection, one: deliveries.delete_of(one.webhook_id or "")(connection, 1.0),
    "another URL": lambda connection, one: deliveries.retarget(connection, one.webhook_id or "", "example.org:443"),
    "a list": lambda connection, one: deliveries.page_of(one.webhook_id or "", 50, 100)(connection),
    "a job's list": lambda connection, one: deliveries.page_of_job(one.job_id, 50, 100)(connection),
    "an organization's webhooks": lambda connection, _: webhooks.listed(connection, ORGANIZATION),
}


@contextmanager
def plans_of(connection: Connection) -> Iterator[list[str]]:
    """The query plan of every statement that runs on the connection meanwhile."""
    told: list[str] = []

    def explain(_connection: Connection, cursor: Any, statement: str, values: Any, *_: object) -> None:  # Any: DBAPI's
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        told.extend(f"{row[3]}: {statement}" for row in cursor.fetchall())

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield told
    finally:
        event.remove(connection, "before_cursor_execute", explain)


@pytest.mark.parametrize("name", WORK)
async def test_no_statement_scans_or_sorts_a_table(name: str, tmp_path: Path) -> None:
    async with hooked(tmp_path) as box:
        await box.add("http://127.0.0.1:9/", "job.cancelled")
        await box.ended()
        (delivery,) = await box.settled(1)
        await box.hooks.close()  # it would look for what is due too

        def make(connection: Connection, _now: float) -> list[str]:
            with plans_of(connection) as told:
                WORK[name](connection, delivery)
            return told

        told = await box.store.change(make)
    assert told
    assert [step for step in told if step.startswith(("SCAN", "USE TEMP B-TREE"))] == []
