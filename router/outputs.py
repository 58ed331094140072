"""The output of a running attempt, as it is made, for those who follow it: text to append, pictures on their way. Pure.

Not about stored events (events.py) nor the output of a job that has ended (tasks.py).
"""

import base64
from dataclasses import dataclass, field

from protos.types import Preview
from router.jobs import Json


@dataclass(slots=True)
class OutputSoFar:
    """What the attempt has made. Of pictures on their way the latest of each is kept."""

    attempt: int = 0  # grows whenever the output begins again
    texts: list[tuple[int, str]] = field(default_factory=list)  # which of several answers, and what it adds to it
    previews: dict[int, tuple[int, Json]] = field(default_factory=dict)  # by picture: its version, and the piece
    version: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.texts and not self.previews

    def add_text(self, text: str, answer: int = 0) -> None:
        self.texts.append((answer, text))

    def show(self, preview: Preview) -> None:
        self.version += 1
        self.previews[preview.index] = (self.version, {"preview": preview_json(preview)})

    def drop(self) -> None:
        if not self.is_empty:
            self.texts, self.previews = [], {}
            self.attempt += 1


class OutputCursor:
    """How much of it one follower has had."""

    def __init__(self, output: OutputSoFar) -> None:
        self._output = output
        self._attempt, self._texts, self._version = output.attempt, 0, 0
        self._has_text = False

    def take(self) -> list[Json]:
        """What is new since the last call."""
        if self._attempt != self._output.attempt:
            self._attempt, self._texts = self._output.attempt, 0
        return [*self._new_text(), *self._new_previews()]

    def _new_text(self) -> list[Json]:
        """A piece for each answer that has some; all but the first answer say which they are."""
        new: dict[int, list[str]] = {}
        for answer, text in self._output.texts[self._texts :]:
            new.setdefault(answer, []).append(text)
        if not new:
            return []
        is_restart = self._has_text and self._texts == 0
        self._texts, self._has_text = len(self._output.texts), True
        pieces: list[Json] = [
            {"text": "".join(texts)} | ({"index": answer} if answer else {}) for answer, texts in new.items()
        ]
        if is_restart:
            pieces[0]["restart"] = True  # of all answers
        return pieces

    def _new_previews(self) -> list[Json]:
        new = [piece for version, piece in self._output.previews.values() if version > self._version]
        self._version = self._output.version
        return new


def preview_json(preview: Preview) -> Json:
    data = base64.b64encode(preview.data).decode()
    return {"index": preview.index, "data": data, "content_type": preview.content_type}
