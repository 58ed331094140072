"""One run and its callers: merging, joining, ending once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.callers import CALLER_EVENTS, Caller, merge
from protos.errors import Cancelled, Overloaded
from protos.types import (
    ChosenToken,
    Preview,
    Progress,
    Queued,
    Segment,
    SegmentDelta,
    TaskEvent,
    TextDelta,
    TokenLogprob,
)

EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(max_size=3), st.integers(0, 2)),
        st.floats(0, 1).map(lambda fraction: Progress(fraction, 1, 2)),
        st.builds(Preview, st.integers(0, 1), st.binary(max_size=2), st.just("image/png")),
        st.builds(SegmentDelta, st.builds(Segment, st.just(0.0), st.just(1.0), st.text(max_size=3))),
    ),
    max_size=30,
)


def merged(events: list[TaskEvent]) -> list[TaskEvent]:
    out: list[TaskEvent] = []
    for event in events:
        merge(out, event)
    return out


@given(EVENTS)
def test_merging_loses_no_word_and_no_segment(events: list[TaskEvent]) -> None:
    def words(of: list[TaskEvent]) -> list[str]:
        said = [event for event in of if isinstance(event, TextDelta)]
        return ["".join(event.text for event in said if event.answer == answer) for answer in range(3)]

    def segments(of: list[TaskEvent]) -> list[TaskEvent]:
        return [event for event in of if isinstance(event, SegmentDelta)]

    assert words(merged(events)) == words(events)
    assert segments(merged(events)) == segments(events)


def test_text_and_progress_of_a_slow_reader_take_one_place() -> None:
    assert merged([TextDelta("a"), TextDelta("b")]) == [TextDelta("ab")]
    assert merged([Progress(0.1, 1, 9), Progress(0.2, 2, 9)]) == [Progress(0.2, 2, 9)]


def test_the_words_of_several_answers_take_one_place_each_with_their_log_probabilities() -> None:
    tokens = [ChosenToken(TokenLogprob(letter.encode(), -0.5)) for letter in "abc"]
    told = [TextDelta("a", 0, (tokens[0],)), TextDelta("b", 1, (tokens[1],)), TextDelta("c", 0, (tokens[2],))]
    assert merged([*told]) == [TextDelta("ac", 0, (tokens[0], tokens[2])), told[1]]


async def test_a_caller_reads_what_came_before_and_after() -> None:
    caller = Caller([Queued(3)])
    caller.push(TextDelta("a"))
    caller.end(None)
    assert (await caller.read(), await caller.read()) == ([Queued(3), TextDelta("a")], [])


async def test_a_caller_gets_the_events_before_the_error() -> None:
    caller = Caller([])
    caller.push(TextDelta("a"))
    caller.end(Cancelled("enough"))
    assert await caller.read() == [TextDelta("a")]
    with pytest.raises(Cancelled, match="enough"):
        await caller.read()


async def test_a_reader_waits_for_the_next_event() -> None:
    caller = Caller([])
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        reading = group.create_task(caller.read())
        await asyncio.sleep(0)  # it waits now
        caller.push(TextDelta("a"))
    assert reading.result() == [TextDelta("a")]


async def test_a_caller_too_far_behind_is_told_so_and_holds_no_more() -> None:
    caller = Caller([])
    for i in range(CALLER_EVENTS + 10):
        caller.push(SegmentDelta(Segment(i, i + 1, "s")))
    assert len(await caller.read()) == CALLER_EVENTS
    with pytest.raises(Overloaded, match="read faster"):
        await caller.read()
