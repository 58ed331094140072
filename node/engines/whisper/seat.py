"""One running request: which of its windows wait for what, and what has come of the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from node.engines.whisper.batch import Key, Waiting
from node.engines.whisper.decoding import Attempt, temperatures
from node.engines.whisper.prepare import AudioPayload
from protos.types import Segment, TaskId, Usage


@dataclass(frozen=True, slots=True)
class Heard:
    """A finished window. `text` as the model wrote it, with the space before the first word."""

    text: str
    segments: Sequence[Segment]
    tokens: int  # of the text


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a finished task takes from the device."""

    text: str
    language: str
    duration_s: float
    segments: Sequence[Segment]


class Seat:
    def __init__(self, task_id: TaskId, payload: AudioPayload, served: int) -> None:
        self.task_id = task_id
        self.payload = payload
        self.language = payload.language
        self.served = served  # the number of the last step that served it
        self._ladder = temperatures(payload.request.temperature)
        self._attempts: list[list[Attempt]] = [[] for _ in payload.vocals]
        self._heard: list[Heard | None] = [None for _ in payload.vocals]
        self._told = 0  # the windows from the first on whose segments the caller has

    @property
    def windows(self) -> int:
        return len(self._heard)

    @property
    def done(self) -> int:
        return len(self._finished())

    def waiting(self) -> Waiting:
        """While the language is unknown only the first window, which tells it."""
        left = [index for index, heard in enumerate(self._heard) if heard is None]
        return Waiting(self.task_id, self.served, [(index, self._key(index)) for index in left[: self._eligible]])

    @property
    def _eligible(self) -> int:
        return self.windows if self.language else 1

    def _key(self, window: int) -> Key:
        temperature = self._ladder[len(self._attempts[window])]
        return Key(len(self.payload.prompt), temperature, self.payload.vocals[window].max_tokens)

    def attempts(self, window: int) -> list[Attempt]:
        """Those that have failed so far."""
        return list(self._attempts[window])

    def is_last_try(self, window: int) -> bool:
        return len(self._attempts[window]) + 1 == len(self._ladder)

    def try_again(self, window: int, attempt: Attempt) -> None:
        """The window waits for the next temperature."""
        self._attempts[window].append(attempt)

    def finish(self, window: int, heard: Heard) -> None:
        self._heard[window] = heard

    def news(self) -> Iterator[Segment]:
        """The segments that the caller can have now: in order, also when a later window was finished first."""
        while self._told < self.windows and (heard := self._heard[self._told]) is not None:
            self._told += 1
            yield from heard.segments

    def transcript(self) -> Transcript:
        """Of a request whose windows are all finished."""
        finished = self._finished()
        return Transcript(
            text="".join(heard.text for heard in finished).strip(),
            language=self.language,
            duration_s=self.payload.duration_s,
            segments=[segment for heard in finished for segment in heard.segments],
        )

    def usage(self) -> Usage:
        return Usage(
            input_tokens=len(self.payload.prompt),
            output_tokens=sum(heard.tokens for heard in self._finished()),
            audio_seconds=self.payload.duration_s,
        )

    def _finished(self) -> list[Heard]:
        return [heard for heard in self._heard if heard is not None]
