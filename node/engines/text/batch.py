"""The plan of a step: which request gets how many tokens of the budget. Pure.

One rule and no phases: a request has tokens that are known and tokens that are computed; a step computes some of the
difference. Not about how the tokens are computed (attention.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIN_STEP_TOKENS: Final = 8  # below it a step's fixed cost is most of its time, so a smaller one would not be shorter


@dataclass(frozen=True, slots=True)
class Row:
    """A seated request as the plan sees it."""

    pending: int  # tokens known and not yet computed; 1: it decodes; 0: its last are under way
    served: int  # the number of the last step that served it; of the one that seated it before the first
    arrival: int


def budget_of(step_tokens: int, affordable: int | None) -> int:
    """Tokens of a step: all that are allowed, or those that end within the quantum, but never so few that the step's
    fixed cost is paid for nothing. `affordable` None: nobody else waits, or nothing is known of the cost."""
    if affordable is None:
        return step_tokens
    return min(step_tokens, max(affordable, MIN_STEP_TOKENS))


def plan(rows: Sequence[Row], budget: int) -> list[int]:
    """Tokens for each row, 0 for some, their sum at most `budget`, and at least 1 when anybody has some pending.

    Running requests first, one token each, those that waited longest before the others; the rest of the budget to new
    ones in order of arrival. When the running alone would fill it, a quarter is kept for the new, so that a tight
    budget delays them but never starves them.
    """
    given = [0] * len(rows)
    fresh = sorted((i for i, row in enumerate(rows) if row.pending > 1), key=lambda i: rows[i].arrival)
    running = sorted((i for i, row in enumerate(rows) if row.pending == 1), key=lambda i: (rows[i].served, i))
    kept = min(max(1, budget // 4), sum(rows[i].pending for i in fresh))
    for i in running[: budget - kept]:
        given[i] = 1
    left = budget - sum(given)
    for i in fresh:
        given[i] = min(left, rows[i].pending)
        left -= given[i]
    return given
