"""The plan of a step: which request gets how many of its texts embedded. Pure.

A pack has no padding, so texts of any lengths go together and only their sum counts.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A seated request as the plan sees it."""

    lengths: Sequence[int]  # tokens of its waiting texts, in order; at least one
    served: int  # the number of the last step that served it; smaller goes first


def plan(rows: Sequence[Row], budget: int) -> list[int]:
    """How many texts of each row, their tokens together at most `budget`; always at least one text, however long.

    Fair by tokens: the next text is one of the request that got least so far in this step, so a request of one text
    does not wait for one of a thousand.
    """
    taken = [0] * len(rows)
    spent = 0
    queue = [(0, row.served, index) for index, row in enumerate(rows)]
    heapq.heapify(queue)
    while queue:
        got, served, index = heapq.heappop(queue)
        length = rows[index].lengths[taken[index]]
        if spent and spent + length > budget:
            break  # not skipped for a shorter one: a long text would wait for ever
        spent += length
        taken[index] += 1
        if taken[index] < len(rows[index].lengths):
            heapq.heappush(queue, (got + length, served, index))
    return taken
