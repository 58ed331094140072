"""The tokens of a window to segments and words with times. Pure.

Times are seconds from the start of the window; what they are in the recording is windows.py's matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from node.engines.whisper.windows import Window, original_span_s
from protos.types import Segment, Word

SECONDS_PER_TIMESTAMP: Final = 0.02  # Source: Radford et al. 2022, section 2.3


@dataclass(frozen=True, slots=True)
class Cut:
    """The text tokens between two timestamps."""

    start_s: float
    end_s: float
    tokens: Sequence[int]


def cuts(tokens: Sequence[int], first_timestamp: int, end_of_text: int, duration_s: float) -> list[Cut]:
    """The window's tokens, cut at its timestamps.

    Source: faster_whisper.transcribe._split_segments_by_timestamps, which leaves out what follows the last pair of
    timestamps, since it reads that part again; here it ends with the window.
    """
    found: list[Cut] = []
    start_s, text = 0.0, []
    for token in tokens:
        if token < end_of_text:
            text.append(token)
        elif token >= first_timestamp:
            time_s = min((token - first_timestamp) * SECONDS_PER_TIMESTAMP, duration_s)
            if text:
                found.append(Cut(start_s, max(start_s, time_s), text))
            start_s, text = time_s, []
    return [*found, Cut(start_s, duration_s, text)] if text else found


def segment_of(cut: Cut, text: str, window: Window, words: Sequence[Word]) -> Segment:
    """The segment as the caller gets it, in the times of the recording."""
    start_s, end_s = original_span_s(window, cut.start_s, cut.end_s)
    if words:  # the model's own times of a segment are coarser
        start_s, end_s = words[0].start_s, words[-1].end_s
    return Segment(round(start_s, 2), round(end_s, 2), text.strip(), tuple(words))


def words_of(
    aligned: Sequence[Mapping[str, Any]],  # Any: faster-whisper's dict of word, tokens, start, end, probability
    pieces: Sequence[Cut],
    window: Window,
) -> list[list[Word]]:
    """The words of each cut, from the alignment of all their tokens one after another."""
    found: list[list[Word]] = []
    waiting = list(aligned)
    for piece in pieces:
        tokens, words = 0, []
        while waiting and tokens < len(piece.tokens):
            timing = waiting.pop(0)
            tokens += len(timing["tokens"])
            if timing["word"]:
                words.append(_word(timing, window))
        found.append(words)
    return found


def _word(timing: Mapping[str, Any], window: Window) -> Word:  # Any: see words_of
    start_s, end_s = original_span_s(window, float(timing["start"]), float(timing["end"]))
    return Word(round(start_s, 2), round(end_s, 2), timing["word"].strip(), float(timing["probability"]))
