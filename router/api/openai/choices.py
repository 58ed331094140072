"""Several texts for one call, as answers or as one stream in which each piece says whose it is.

A call may have several prompts, and each of them several answers: its choices are those of the first, then of the next.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from protos.errors import Internal
from protos.types import Finished, TaskEvent, TextDelta, TextRequest, TextResult, Usage
from router.api.openai.calls import Caller, Outcome, usage_json
from router.api.openai.dialect import END, chunk, told
from router.api.openai.sampling import TextBody
from router.api.sse import EventStream

Json = dict[str, Any]  # Any: JSON
Piece = Callable[
    [int, TextDelta | None, str | None], Json
]  # (choice, what to append, finish reason) -> its choice object
_QUEUED = 64  # pieces that wait for the reader; the engines wait for it then


def answered(head: Json, choices: Sequence[Json], usages: Sequence[Usage]) -> Response:
    return JSONResponse({**head, "choices": list(choices), "usage": usage_json(usages)})


def answers_of(outcomes: Sequence[Outcome]) -> list[TextResult]:
    """In the order of their choices."""
    return [answer for outcome in outcomes for answer in text_of(outcome.finished).answers]


def text_of(finished: Finished) -> TextResult:
    if not isinstance(finished.result, TextResult):
        raise Internal(f"a text was asked for and came back as {type(finished.result).__name__}: this is a bug")
    return finished.result


async def streamed(
    caller: Caller, body: TextBody, requests: Sequence[TextRequest], head: Json, piece: Piece
) -> Response:
    """The stream of all choices at once. What refuses one of them is raised here, before it begins."""
    begun = [await caller.started(caller.task(request, body.model)) for request in requests]
    head = {**head, "model": begun[0][0]}
    each = requests[0].n
    chunks = _chunks([events for _, events in begun], each, head, piece, wants_usage=body.wants_usage)
    return EventStream(told(chunks), caller.parts.closing)


async def _chunks(
    prompts: Sequence[AsyncGenerator[TaskEvent, None]],
    each: int,
    head: Mapping[str, Any],  # Any: JSON
    piece: Piece,
    *,
    wants_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """each: answers to one prompt."""
    usages: list[Usage] = []
    async with aclosing(_together(prompts)) as events:
        async for prompt, event in events:
            match event:
                case TextDelta():
                    yield chunk({**head, "choices": [piece(prompt * each + event.answer, event, None)]})
                case Finished():
                    usages.append(event.usage)
                    for answer, result in enumerate(text_of(event).answers):
                        yield chunk({**head, "choices": [piece(prompt * each + answer, None, result.finish_reason)]})
                case _:
                    pass
    if wants_usage:
        yield chunk({**head, "choices": [], "usage": usage_json(usages)})
    yield END


async def _together(
    choices: Sequence[AsyncGenerator[TaskEvent, None]],
) -> AsyncGenerator[tuple[int, TaskEvent], None]:
    """The events of all as they come. Closing it ends them; one that fails ends the others."""
    if len(choices) == 1:  # as nearly always: no task has to carry them
        async with aclosing(choices[0]) as events:
            async for event in events:
                yield 0, event
        return
    arrived: asyncio.Queue[tuple[int, TaskEvent] | BaseException | None] = asyncio.Queue(_QUEUED)

    async def carry(choice: int, events: AsyncGenerator[TaskEvent, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    await arrived.put((choice, event))
            await arrived.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised again where it is awaited
            await arrived.put(error)

    carrying = [asyncio.create_task(carry(choice, events)) for choice, events in enumerate(choices)]
    try:
        left = len(carrying)
        while left:
            what = await arrived.get()
            if isinstance(what, BaseException):
                raise what
            if what is None:
                left -= 1
            else:
                yield what
    finally:
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)
