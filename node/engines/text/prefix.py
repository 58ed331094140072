"""Which slot already holds the beginning of a prompt, such as a system prompt that many requests share. Pure."""

from collections.abc import Sequence
from typing import Final

LEAST_TOKENS: Final = 16  # fewer are computed in the time that it takes to copy them


def shared(a: Sequence[int], b: Sequence[int], most: int) -> int:
    """How many tokens both begin with, at most `most`. Compares whole slices: halving is quicker than token by token."""
    low, high = 0, min(len(a), len(b), most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def donor(prompt: Sequence[int], held: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The slot that holds most of the prompt's beginning, and how many tokens; (0, 0) when none holds enough.

    At least the last token of the prompt is left to compute: its logits choose the first of the answer.
    """
    best, most = (0, 0), len(prompt) - 1
    for slot, tokens in enumerate(held):
        if prompt[:LEAST_TOKENS] == tokens[:LEAST_TOKENS]:
            found = shared(prompt, tokens, most)
            if found >= LEAST_TOKENS and found > best[1]:
                best = (slot, found)
    return best
