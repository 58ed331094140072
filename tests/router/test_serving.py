"""Who serves a task when the best place will not."""

from contextlib import aclosing

import pytest
from scripted import MODEL, STARTED, Scripted, a_job, said

from protos.errors import FabricError, InputInvalid, Overloaded
from protos.types import Finished, Queued, Started, Task, TaskEvent, TextDelta
from providers.registry import ProviderRegistry
from router.accounts import Account, Accounts
from router.candidates import Candidate
from router.serving import Served, serve
from router.store.sql import SqlStore
from router.tasks import task_of

FULL = Overloaded("full")


def an_account(task: Task) -> Account:
    """Nothing here is paid, so that it writes nothing before a call."""
    return Accounts(SqlStore("sqlite://", lambda _: None)).open(task)


async def served(*places: Scripted, turns: list[Candidate] | None = None) -> list[Served]:
    """Every event of a task for which the places are asked in this order."""
    candidates = [Candidate(place.id, MODEL, "as told") for place in places]
    task = task_of(a_job())
    turn = (turns if turns is not None else []).append
    run = serve(ProviderRegistry(places), candidates, task, an_account(task), turn)
    async with aclosing(run) as events:
        return [event async for event in events]


async def test_the_next_place_has_its_turn_when_one_refuses_for_now() -> None:
    full, free = Scripted([Queued(0), FULL], provider_id="full"), Scripted(provider_id="free")
    turns: list[Candidate] = []
    events = await served(full, free, turns=turns)
    assert [(each.by.provider_id, type(each.event)) for each in events] == [
        ("full", Queued),
        ("free", Queued),
        ("free", Started),
        ("free", Finished),
    ]
    assert [turn.provider_id for turn in turns] == ["full", "free"]


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ([InputInvalid("bad", may_have_run=True)], InputInvalid),
        ([STARTED, TextDelta("once"), FULL], Overloaded),
    ],
    ids=["a refusal of what was read", "a failure after some of the answer was seen"],
)
async def test_no_other_place_is_asked_after(plan: list[FabricError | TaskEvent], error: type[FabricError]) -> None:
    other = Scripted(provider_id="other")
    with pytest.raises(error):
        await served(Scripted(plan, provider_id="first"), other)
    assert not other.calls


async def test_the_next_place_begins_again_after_a_failure_that_nobody_saw_anything_of() -> None:
    first, other = Scripted([STARTED, FULL], provider_id="first"), Scripted(provider_id="other")
    events = await served(first, other)
    assert [each.by.provider_id for each in events if isinstance(each.event, Started)] == ["first", "other"]


async def test_the_error_of_the_last_place_is_the_answer() -> None:
    with pytest.raises(Overloaded, match="still full"):
        await served(Scripted([FULL], provider_id="a"), Scripted([Overloaded("still full")], provider_id="b"))


async def test_a_reader_that_stops_closes_the_run_and_asks_nobody_else() -> None:
    first = Scripted([Queued(0), said("done")], provider_id="first")
    other = Scripted(provider_id="other")
    task = task_of(a_job())
    candidates = [Candidate(place.id, MODEL, "as told") for place in (first, other)]
    async with aclosing(serve(ProviderRegistry([first, other]), candidates, task, an_account(task))) as events:
        await anext(events)
    assert first.closed == [task.id]
    assert not other.calls
