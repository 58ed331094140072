"""Windows: nothing lost, nothing longer than 30 s, and times that find back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engines.whisper.windows import (
    WINDOW_SAMPLES,
    Span,
    cut_where_quiet,
    duration_s,
    grouped,
    original_s,
    original_span_s,
)

HZ = 16_000
gaps_and_lengths = st.lists(st.tuples(st.integers(0, 5 * HZ), st.integers(1, 70 * HZ)), max_size=12)


def spans_of(pairs: list[tuple[int, int]]) -> list[Span]:
    spans, at = [], 0
    for gap, length in pairs:
        spans.append(Span(at + gap, at + gap + length))
        at += gap + length
    return spans


@given(gaps_and_lengths)
def test_grouping_keeps_every_sample_in_order_within_the_bound(pairs: list[tuple[int, int]]) -> None:
    spans = spans_of(pairs)
    windows = grouped(spans)
    pieces = [piece for window in windows for piece in window]
    assert sum(piece.samples for piece in pieces) == sum(span.samples for span in spans)
    assert all(before.end <= after.start for before, after in pairwise(pieces))
    assert all(0 < sum(piece.samples for piece in window) <= WINDOW_SAMPLES for window in windows)


def test_short_pieces_share_a_window() -> None:
    assert grouped([Span(0, 10 * HZ), Span(12 * HZ, 20 * HZ), Span(30 * HZ, 50 * HZ)]) == [
        (Span(0, 10 * HZ), Span(12 * HZ, 20 * HZ)),
        (Span(30 * HZ, 50 * HZ),),
    ]


def test_a_long_recording_is_cut_where_it_is_quiet() -> None:
    samples = np.ones(50 * HZ, np.float32)
    samples[26 * HZ : 27 * HZ] = 0.0
    first, second = cut_where_quiet(samples)
    assert first.start == 0
    assert 26 * HZ <= first.end <= 27 * HZ
    assert second == Span(first.end, 50 * HZ)


def test_a_short_recording_is_one_window() -> None:
    assert cut_where_quiet(np.zeros(3 * HZ, np.float32)) == [Span(0, 3 * HZ)]


def test_a_recording_without_any_sound_in_it_still_moves_on() -> None:
    spans = cut_where_quiet(np.zeros(95 * HZ, np.float32))
    assert all(0 < span.samples <= 30 * HZ for span in spans)
    assert sum(span.samples for span in spans) == 95 * HZ


def test_larger_pieces_lose_nothing_either() -> None:
    spans = cut_where_quiet(np.ones(95 * HZ, np.float32), 40 * HZ)
    assert all(30 * HZ <= span.samples <= 40 * HZ for span in spans[:-1])
    assert [span.end for span in spans] == [*(span.start for span in spans[1:]), 95 * HZ]


def test_a_time_in_the_window_is_found_in_the_recording() -> None:
    window = (Span(HZ, 3 * HZ), Span(10 * HZ, 11 * HZ))
    assert duration_s(window) == 3
    assert [original_s(window, time_s) for time_s in (0.0, 1.5, 2.0, 2.5, 3.0, 9.0)] == [1, 2.5, 3, 10.5, 11, 11]


def test_a_span_that_starts_at_a_seam_starts_in_the_later_piece() -> None:
    window = (Span(HZ, 3 * HZ), Span(10 * HZ, 12 * HZ))
    assert original_span_s(window, 2.0, 3.0) == pytest.approx((10.0, 11.0), abs=1e-3)
    assert original_span_s(window, 0.5, 2.0) == pytest.approx((1.5, 3.0), abs=1e-3)


@given(gaps_and_lengths.filter(bool), st.floats(0, 30), st.floats(0, 30))
def test_spans_never_run_backwards(pairs: list[tuple[int, int]], one: float, other: float) -> None:
    (window, *_) = grouped(spans_of(pairs))
    start_s, end_s = original_span_s(window, min(one, other), max(one, other))
    assert window[0].start / HZ <= start_s <= end_s <= window[-1].end / HZ
