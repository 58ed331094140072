"""The texts of the embedding benchmarks."""

import random
from typing import Final

WORDS: Final = [
    "water", "machine", "green", "running", "quick", "answer", "between", "model", "seven", "house", "because", "river",
    "learning", "paper", "under", "morning", "strange", "music", "window", "engine", "market", "yellow", "thought", "city",
]  # fmt: skip  # each one token of MiniLM's


def sentences(count: int) -> list[str]:
    """Of 8 to 400 tokens with the two around each text, 84 in the mean, most of them short."""
    choice = random.Random(0)
    return [" ".join(choice.choices(WORDS, k=min(398, 6 + int(choice.expovariate(1 / 76))))) for _ in range(count)]
