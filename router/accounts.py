"""The account of one task: what each call of it may cost is reserved before it, what it did cost is booked after it.

Not about whether a budget has room (spending.py) nor how it is kept (store/budget.py, store/usage.py).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from protos.errors import FabricError
from protos.types import Finished, Modality, Task, Usage
from providers.pricing import Price, cost_micro, size_of
from router.candidates import Candidate
from router.decisions import Asker, Decisions, leaving
from router.ids import ulid
from router.quotes import FREE
from router.spending import AttemptInfo, Outcome, Payer, Spent
from router.store import audit, budget, usage
from router.store.audit import Deed
from router.store.base import Records

log = logging.getLogger(__name__)

_FINISH_S: Final = 5.0  # for bookings that are under way when the router ends
_TOGETHER_S: Final = (
    0.05  # what ended meanwhile is one commit; and each takes the interpreter from answers on their way
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one place, under way."""

    attempt: AttemptInfo
    price: Price | None
    size: str  # of the pictures, where their price depends on it
    began_at: float  # on the monotonic clock
    has_begun: bool = False  # the place has taken it
    eta_s: float | None = None  # as the place said when it took it in
    writing: "asyncio.Future[None] | None" = None  # what it holds, beside it; None: that was written before it

    async def written(self) -> "Call":
        """Once what it holds is in the books. Raises what the database says to that, of a call that may have been paid."""
        try:
            if self.writing is not None:
                await self.writing
        except FabricError as error:
            error.may_have_run = True
            raise
        return replace(self, writing=None)


def booked(
    call: Call, took_s: float, *, finished: Finished | None = None, error: FabricError | None = None
) -> Spent | None:
    """What is to be written of a call that ended; with neither result nor error: its caller went away. None: nothing.

    What a vendor may have billed without saying so counts at its bound: less could overspend a budget.
    """
    used = finished.usage if finished else Usage()
    ended = Spent(attempt=call.attempt, outcome=Outcome.CANCELLED, usage=used, eta_s=call.eta_s, took_s=took_s)
    bound = call.attempt.quote.bound_micro
    if finished is not None:
        cost = cost_micro(used, call.price, call.size) if call.price else 0
        return replace(ended, outcome=Outcome.COMPLETED, cost_micro=cost)
    if error is not None:
        outcome = Outcome.CANCELLED if error.code == "cancelled" else Outcome.FAILED
        ended = replace(ended, outcome=outcome, error_code=error.code.value)
    may_have_run = bool(bound) and (call.has_begun if error is None else error.may_have_run)
    if not (bound or call.has_begun):
        return None  # refused at the door of a free place: nothing happened
    return replace(ended, may_have_run=may_have_run, cost_micro=bound if may_have_run else 0, is_exact=not may_have_run)


def _begun(
    attempt: AttemptInfo, deed: Deed | None, take: Callable[[AttemptInfo], Callable[[Connection, float], None]]
) -> Callable[[Connection, float], None]:
    """What is written of a call that begins. take: how its bound is taken."""

    def make(connection: Connection, now: float) -> None:
        if attempt.quote.bound_micro:
            take(attempt)(connection, now)
        if deed is not None:
            audit.record(connection, now, deed)

    return make


def _seen(written: "asyncio.Future[None]") -> None:
    """A call that failed by itself asks no more how that ended; the writer has logged it."""
    if not written.cancelled():
        written.exception()


class Account:
    """Of one task. `spent`: what ended and is not written yet."""

    def __init__(self, records: Records, task: Task, key_id: str | None, job_id: str | None) -> None:
        self._records, self._job_id = records, job_id
        self._asker = Asker(
            organization_id=task.organization_id,
            key_id=key_id,
            resource_id=job_id or task.id,
            is_job=job_id is not None,
        )
        self._payer = Payer(organization_id=task.organization_id, key_id=key_id)
        self._modality: Modality = task.modality
        self._size = size_of(task.request)
        self.spent: list[Spent] = []

    async def begin(self, candidate: Candidate) -> Call:
        """Before a call: reserves its bound, where there is one, and writes down that it leaves the box, where it does. Of
        a direct call that no budget limits, beside the call. Raises BudgetExceeded or BudgetReserved."""
        attempt = AttemptInfo(
            attempt_id=f"attempt_{ulid(time.time())}",
            payer=self._payer,
            job_id=self._job_id,
            provider_id=candidate.provider_id,
            model=candidate.model,
            modality=self._modality,
            quote=candidate.quote or FREE,
        )
        deed = leaving(self._asker, candidate)
        writing: asyncio.Future[None] | None = None
        if attempt.quote.bound_micro or deed is not None:
            if self._job_id is None and self._records.is_unlimited(self._payer.organization_id):
                writing = self._records.change(_begun(attempt, deed, budget.hold), is_synced=False)
                writing.add_done_callback(_seen)
            else:
                # Of a job also a power cut must not lose it: the job would be paid for again. A direct call ends with
                # its router, and what it did cost is synced.
                is_synced = self._job_id is not None
                await self._records.change(_begun(attempt, deed, budget.reserve), is_synced=is_synced)
        return Call(attempt, candidate.price, self._size, time.monotonic(), writing=writing)

    def end(self, call: Call, *, finished: Finished | None = None, error: FabricError | None = None) -> None:
        """After it, however it ended."""
        spent = booked(call, time.monotonic() - call.began_at, finished=finished, error=error)
        if spent is not None:
            self.spent.append(spent)

    def take(self) -> Sequence[Spent]:
        """What is to be written with the end of the job; from here on it is the caller's to write."""
        spent, self.spent = self.spent, []
        return spent


class Accounts:
    """Opens the accounts of a router, and writes those of direct calls behind them. `decisions`: where tasks go, for the
    audit log. One event loop."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.decisions = Decisions(records)
        self._unwritten: list[Sequence[Spent]] = []  # of direct calls, each call's own
        self._writing: asyncio.Task[None] | None = None

    def open(self, task: Task, *, key_id: str | None = None, job_id: str | None = None) -> Account:
        return Account(self._records, task, key_id, job_id)

    def settle(self, account: Account) -> None:
        """Writes what a direct call cost, without making its caller wait; until then its reservation stands."""
        if spent := account.take():
            self._unwritten.append(spent)
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write(), name="book")

    async def close(self) -> None:
        """Waits for what is being written."""
        await self.decisions.close()
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_FINISH_S)

    async def _write(self) -> None:
        while self._unwritten:
            await asyncio.sleep(_TOGETHER_S)
            calls, self._unwritten = self._unwritten, []
            await asyncio.gather(
                *(self._write_one(spent) for spent in calls)
            )  # each its own change, one commit for all

    async def _write_one(self, spent: Sequence[Spent]) -> None:
        try:
            await self._records.change(usage.booked(spent))
        except FabricError:
            log.exception("what %d attempts cost could not be written; their reservations stand", len(spent))
