"""A task served at the best place, or at the next one when a place fails it; each call is accounted for.

Not about which places there are (routing.py) and who may be next (fallback.py), nor what becomes of the events
(attempt.py, api/direct.py).
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from protos.errors import FabricError
from protos.types import Finished, Preview, Queued, SegmentDelta, Started, Task, TaskEvent, TextDelta
from providers.registry import ProviderRegistry
from router.accounts import Account, Accounts, Call
from router.candidates import Candidate
from router.fallback import after_failure


@dataclass(frozen=True, slots=True)
class Served:
    """An event and who sent it."""

    by: Candidate
    event: TaskEvent


async def serve(
    providers: ProviderRegistry,
    candidates: Sequence[Candidate],
    task: Task,
    account: Account,
    take_turn: Callable[[Candidate], None] = lambda _: None,
) -> AsyncGenerator[Served, None]:
    """The events of the run; `take_turn` hears of each candidate before it is asked. Raises the last one's error, when
    none is left that may be asked; after a failure beyond its start, Started comes again from the next."""
    rest = candidates
    while rest:
        candidate, rest = rest[0], rest[1:]
        take_turn(candidate)
        has_output = False
        try:
            async with aclosing(_accounted(providers, candidate, task, account)) as events:
                async for served in events:
                    has_output = has_output or isinstance(served.event, TextDelta | SegmentDelta | Preview)
                    yield served
        except FabricError as error:
            rest = after_failure(error, candidate, rest, has_output=has_output)
            if not rest:
                raise
        else:
            return


async def serve_once(
    providers: ProviderRegistry,
    candidates: Sequence[Candidate],
    task: Task,
    accounts: Accounts,
    key_id: str | None,
) -> AsyncGenerator[Served, None]:
    """`serve` for what is not durable: what it cost is written behind it. key_id: of the key that pays."""
    account = accounts.open(task, key_id=key_id)
    try:
        async with aclosing(serve(providers, candidates, task, account)) as events:
            async for served in events:
                yield served
    finally:
        accounts.settle(account)


async def _accounted(
    providers: ProviderRegistry, candidate: Candidate, task: Task, account: Account
) -> AsyncGenerator[Served, None]:
    """One call. Its end is booked also when its reader goes away."""
    call = await account.begin(candidate)
    finished: Finished | None = None
    failed: FabricError | None = None
    try:
        run = providers.get(candidate.provider_id).run(replace(task, model=candidate.model))
        async with aclosing(cast(AsyncGenerator[TaskEvent, None], run)) as events:
            async for event in events:
                call = _seen(call, event)
                if call.writing is not None and (call.writing.done() or isinstance(event, Finished)):
                    call = await call.written()  # what is in no book is not told to its end
                if isinstance(event, Finished):
                    finished = event
                    account.end(call, finished=event)  # before it is told: the reader may not come back
                yield Served(candidate, event)
    except FabricError as error:
        failed = error
        raise
    finally:
        if finished is None:
            account.end(call, error=failed)


def _seen(call: Call, event: TaskEvent) -> Call:
    match event:
        case Queued(eta_s=eta_s):
            return replace(call, eta_s=eta_s)
        case Started():
            return replace(call, has_begun=True)
        case _:
            return call
