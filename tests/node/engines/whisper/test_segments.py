"""Tokens to segments and words."""

import pytest

from node.engines.whisper.segments import Cut, cuts, segment_of, words_of
from node.engines.whisper.windows import Span
from protos.types import Segment, Word

HZ = 16_000
END, ZERO = 100, 200  # <|endoftext|>, <|0.00|>


def at(seconds: float) -> int:
    return ZERO + round(seconds / 0.02)


def test_pairs_of_timestamps_make_segments() -> None:
    tokens = [at(0), 1, 2, at(1.5), at(2.0), 3, at(4.0)]
    assert cuts(tokens, ZERO, END, 10.0) == [Cut(0.0, 1.5, [1, 2]), Cut(2.0, 4.0, [3])]


def test_text_after_the_last_timestamp_ends_with_the_window() -> None:
    assert cuts([at(0), 1, at(1.0), at(1.0), 2], ZERO, END, 3.0) == [Cut(0.0, 1.0, [1]), Cut(1.0, 3.0, [2])]


def test_text_without_timestamps_is_one_segment() -> None:
    assert cuts([1, 2, END], ZERO, END, 3.0) == [Cut(0.0, 3.0, [1, 2])]


def test_no_segment_ends_after_the_window_or_before_it_starts() -> None:
    assert cuts([at(2.0), 1, at(29.0)], ZERO, END, 3.0) == [Cut(2.0, 3.0, [1])]
    assert cuts([at(2.0), 1, at(1.0)], ZERO, END, 3.0) == [Cut(2.0, 2.0, [1])]


def test_no_text_is_no_segment() -> None:
    assert cuts([at(0), END], ZERO, END, 3.0) == []
    assert cuts([], ZERO, END, 3.0) == []


def test_a_segment_has_the_times_of_the_recording() -> None:
    window = (Span(5 * HZ, 7 * HZ), Span(20 * HZ, 25 * HZ))
    assert segment_of(Cut(2.5, 4.0, [1]), " hello", window, []) == Segment(20.5, 22.0, "hello", ())


def test_words_go_to_the_segment_whose_tokens_they_are() -> None:
    window = (Span(5 * HZ, 15 * HZ),)
    timings = [
        {"word": " one", "tokens": [1], "start": 0.0, "end": 0.4, "probability": 0.9},
        {"word": " triangle", "tokens": [2, 3], "start": 0.5, "end": 1.1, "probability": 0.8},
        {"word": " two", "tokens": [4], "start": 2.0, "end": 2.5, "probability": 0.7},
    ]
    first, second = words_of(timings, [Cut(0, 1, [1, 2, 3]), Cut(2, 3, [4])], window)
    assert first == [Word(5.0, 5.4, "one", 0.9), Word(5.5, 6.1, "triangle", 0.8)]
    assert second == [Word(7.0, 7.5, "two", 0.7)]


def test_a_segment_with_words_has_their_times() -> None:
    words = [Word(5.1, 5.4, "one", 0.9), Word(5.5, 6.1, "two", 0.8)]
    segment = segment_of(Cut(0, 3, [1, 2]), " one two", (Span(5 * HZ, 15 * HZ),), words)
    assert (segment.start_s, segment.end_s) == pytest.approx((5.1, 6.1))
    assert segment.words == tuple(words)
