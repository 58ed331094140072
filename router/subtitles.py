"""Segments of speech as subtitle files. Pure.

Source: SubRip as players read it; WebVTT, https://www.w3.org/TR/webvtt1/.
"""

from collections.abc import Sequence

from protos.types import Segment


def srt(segments: Sequence[Segment]) -> str:
    blocks = (
        f"{number}\n{_time(segment.start_s, ',')} --> {_time(segment.end_s, ',')}\n{segment.text.strip()}\n"
        for number, segment in enumerate(segments, 1)
    )
    return "\n".join(blocks)


def vtt(segments: Sequence[Segment]) -> str:
    blocks = (
        f"{_time(segment.start_s, '.')} --> {_time(segment.end_s, '.')}\n{segment.text.strip().replace('-->', '->')}\n"
        for segment in segments
    )
    return "\n".join(["WEBVTT\n", *blocks])


def _time(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
