"""Segments of speech as subtitle files. Pure.

Source: SubRip as players read it; WebVTT, https://www.w3.org/TR/webvtt1/.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from protos.types import AudioResult, Segment, TaskResult
from router.jobs import Json


def with_subtitles(output: Json, result: TaskResult, params: Json) -> Json:
    """What is shown of a result, and `subtitles` where the params ask for them: the text of such a file."""
    kind = params.get("subtitles")
    if kind is None or not isinstance(result, AudioResult):
        return output
    return output | {"subtitles": _KINDS[kind](result.segments)}


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


_KINDS: Final[Mapping[str, Callable[[Sequence[Segment]], str]]] = {"srt": srt, "vtt": vtt}


def _time(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
