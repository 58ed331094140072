from protos.types import AudioResult, Segment, TextResult
from router.subtitles import srt, vtt, with_subtitles

SEGMENTS = [Segment(0.0, 1.5, " seven three"), Segment(3661.0625, 3662.0, "red --> circle")]


def test_srt_numbers_the_segments_and_gives_times_to_the_millisecond() -> None:
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,500\nseven three\n\n2\n01:01:01,062 --> 01:01:02,000\nred --> circle\n"
    )


def test_vtt_has_no_arrow_in_a_text() -> None:
    assert vtt(SEGMENTS) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nseven three\n\n01:01:01.062 --> 01:01:02.000\nred -> circle\n"
    )


def test_the_output_has_them_where_they_were_asked_for() -> None:
    result = AudioResult("seven three", "en", 1.5, SEGMENTS)
    output = {"text": "seven three"}
    assert with_subtitles(output, result, {"subtitles": "srt"}) == {**output, "subtitles": srt(SEGMENTS)}
    assert with_subtitles(output, result, {"subtitles": "vtt"}) == {**output, "subtitles": vtt(SEGMENTS)}
    assert with_subtitles(output, result, {"task": "translate"}) == output
    assert with_subtitles(output, TextResult("a", "stop"), {"subtitles": "srt"}) == output
