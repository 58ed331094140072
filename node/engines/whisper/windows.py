"""How a recording is cut into windows of at most 30 s, and what a time within a window is in the recording. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from node.engines.whisper.sound import SAMPLE_RATE_HZ, Samples

WINDOW_SAMPLES: Final = 30 * SAMPLE_RATE_HZ
QUIET_SAMPLES: Final = SAMPLE_RATE_HZ // 10  # a cut is made in the middle of the quietest 100 ms
SEARCH_SAMPLES: Final = 10 * SAMPLE_RATE_HZ  # of the last 10 s of a window


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the recording, in samples."""

    start: int
    end: int

    @property
    def samples(self) -> int:
        return self.end - self.start


Window = tuple[Span, ...]  # pieces of the recording, put together without the silence between them


def grouped(spans: Sequence[Span]) -> list[Window]:
    """As many pieces of speech, in order, as fit a window. A longer piece is cut."""
    windows: list[Window] = []
    for span in (part for whole in spans for part in _pieces(whole)):
        if windows and sum(piece.samples for piece in windows[-1]) + span.samples <= WINDOW_SAMPLES:
            windows[-1] = (*windows[-1], span)
        else:
            windows.append((span,))
    return windows


def _pieces(span: Span) -> list[Span]:
    starts = [*range(span.start, span.end, WINDOW_SAMPLES), span.end]
    return [Span(start, end) for start, end in pairwise(starts)]


def cut_where_quiet(samples: Samples, most_samples: int = WINDOW_SAMPLES) -> list[Span]:
    """All of the recording in pieces of at most so many samples, cut in the quietest place of the last 10 s of each."""
    cuts = [0]
    while len(samples) - cuts[-1] > most_samples:
        first = cuts[-1] + most_samples - SEARCH_SAMPLES
        cuts.append(first + _quietest(samples[first : first + SEARCH_SAMPLES]))
    return [Span(start, end) for start, end in pairwise([*cuts, len(samples)]) if end > start]


def _quietest(samples: Samples) -> int:
    """The middle of the piece of QUIET_SAMPLES that has the least energy."""
    energy: NDArray[np.float64] = (samples.astype(np.float64) ** 2).reshape(-1, QUIET_SAMPLES).sum(axis=1)
    return int(energy.argmin()) * QUIET_SAMPLES + QUIET_SAMPLES // 2


def duration_s(window: Window) -> float:
    return sum(span.samples for span in window) / SAMPLE_RATE_HZ


def original_s(window: Window, time_s: float) -> float:
    """The time in the recording of a time in the window. The seam of two pieces belongs to the earlier one."""
    left = time_s * SAMPLE_RATE_HZ
    for span in window:
        if left <= span.samples:
            return (span.start + left) / SAMPLE_RATE_HZ
        left -= span.samples
    return window[-1].end / SAMPLE_RATE_HZ


def original_span_s(window: Window, start_s: float, end_s: float) -> tuple[float, float]:
    """(start, end) in the recording. At the seam of two pieces a start belongs to the later one, an end to the earlier."""
    begin, end = original_s(window, start_s + 1e-6), original_s(window, end_s)
    return min(begin, end), max(begin, end)
