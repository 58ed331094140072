"""Stop strings in streamed text: what may be shown now, and where the answer ends. Pure but for the held tail."""

from collections.abc import Sequence


def end_of(text: str, stops: Sequence[str]) -> int | None:
    """Where the earliest stop string begins in `text`."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None


def safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of `text`, which holds no whole stop string, can not be the beginning of one any more."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(stop.startswith(text[start:]) for stop in stops):
            return start
    return len(text)


class StopFilter:
    """Holds back text that may be the beginning of a stop string, which itself is never shown."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """More of the answer -> what may be shown now, and whether the answer ends here."""
        held = self._held + text
        end = end_of(held, self._stops)
        if end is not None:
            self._held = ""
            return held[:end], True
        safe = safe_length(held, self._stops)
        self._held = held[safe:]
        return held[:safe], False

    def flush(self) -> str:
        """What was held back, once nothing can follow it."""
        held, self._held = self._held, ""
        return held
