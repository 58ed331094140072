"""What a stand-in has accepted and charged: the other side's books, counted without any of our code."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil


@dataclass(frozen=True)
class Tariff:
    """What a stand-in charges, in microdollars: per million tokens, per picture, per minute."""

    input_micro: int = 0
    cached_micro: int = 0
    output_micro: int = 0
    image_micro: int = 0
    minute_micro: int = 0


@dataclass
class Entry:
    """One accepted call. `is_told`: the caller got the whole answer with its usage, so it can know the cost."""

    path: str
    model: str
    key: str = field(repr=False)
    idempotency_key: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    images: int = 0
    audio_seconds: int = 0
    is_told: bool = False

    def cost_micro(self, tariff: Tariff) -> int:
        tokens = (
            (self.input_tokens - self.cached_tokens) * tariff.input_micro
            + self.cached_tokens * tariff.cached_micro
            + self.output_tokens * tariff.output_micro
        )
        sound = Fraction(self.audio_seconds * tariff.minute_micro, 60)
        return self.images * tariff.image_micro + ceil(Fraction(tokens, 1_000_000) + sound)


class Book:
    """All of them, and the calls that were turned away."""

    def __init__(self, tariffs: dict[str, Tariff] | None = None) -> None:
        self.entries: list[Entry] = []
        self.refused: list[int] = []  # the statuses of calls that were not accepted
        self._tariffs = tariffs or {}

    def accept(self, entry: Entry) -> Entry:
        self.entries.append(entry)
        return entry

    def told_micro(self) -> int:
        """Of the answers that arrived whole."""
        return self._cost(entry for entry in self.entries if entry.is_told)

    def untold_micro(self) -> int:
        """Of calls that were run and whose answer was cut: charged all the same."""
        return self._cost(entry for entry in self.entries if not entry.is_told)

    def _cost(self, entries: Iterable[Entry]) -> int:
        return sum(entry.cost_micro(self._tariffs.get(entry.model, Tariff())) for entry in entries)
