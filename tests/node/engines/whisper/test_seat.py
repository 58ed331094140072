"""A seat: what its caller hears in order, and only the failed window is tried again."""

import numpy as np

from node.engines.whisper.batch import Key
from node.engines.whisper.decoding import Attempt
from node.engines.whisper.prepare import AudioPayload, Vocal
from node.engines.whisper.seat import Heard, Seat
from node.engines.whisper.windows import Span
from protos.types import AudioRequest, Blob, Segment, TaskId

HZ = 16_000
POOR = Attempt([1], -3.0, 0.0, 1.0)


def a_seat(windows: int, language: str = "en", temperature: float = 0.0) -> Seat:
    vocals = [Vocal((Span(n * 10 * HZ, (n + 1) * 10 * HZ),), np.zeros((80, 1000), np.float32)) for n in range(windows)]
    request = AudioRequest(audio=Blob(b"-"), temperature=temperature)
    return Seat(TaskId("t"), AudioPayload(request, 10.0 * windows, language, [], vocals), served=1)


def heard(text: str) -> Heard:
    return Heard(f" {text}", [Segment(0.0, 1.0, text)], tokens=1)


def test_segments_are_told_in_order_whatever_is_finished_first() -> None:
    seat = a_seat(3)
    seat.finish(2, heard("c"))
    assert list(seat.news()) == []
    seat.finish(0, heard("a"))
    assert [segment.text for segment in seat.news()] == ["a"]
    seat.finish(1, heard("b"))
    assert [segment.text for segment in seat.news()] == ["b", "c"]
    assert seat.transcript().text == "a b c"


def test_only_the_failed_window_waits_for_the_next_temperature() -> None:
    seat = a_seat(2)
    seat.finish(1, heard("b"))
    seat.try_again(0, POOR)
    assert seat.waiting().windows == [(0, Key(0, 0.2, 136))]
    assert seat.attempts(0) == [POOR]


def test_the_ladder_ends_at_1() -> None:
    seat = a_seat(1, temperature=0.8)
    assert not seat.is_last_try(0)
    seat.try_again(0, POOR)
    assert seat.waiting().windows == [(0, Key(0, 1.0, 136))]
    assert seat.is_last_try(0)


def test_while_the_language_is_unknown_the_first_window_goes_alone() -> None:
    seat = a_seat(3, language="")
    assert [index for index, _ in seat.waiting().windows] == [0]
    seat.language = "fr"
    assert [index for index, _ in seat.waiting().windows] == [0, 1, 2]


def test_usage_counts_the_seconds_and_the_tokens_of_the_text() -> None:
    seat = a_seat(2)
    seat.finish(0, heard("a"))
    seat.finish(1, Heard("", (), 0))
    assert seat.usage().audio_seconds == 20.0
    assert seat.usage().output_tokens == 1
