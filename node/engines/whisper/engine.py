"""The speech engine: windows of many recordings in one call per step, each retried alone when its answer is poor."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from ctranslate2 import StorageView

from node.engine import DeviceSpec, Done, ModelSpec, Prepared, Step, StepEvent
from node.engines.whisper.batch import Key, Pick, Waiting, choose, lead
from node.engines.whisper.decoding import MAX_TOKENS, Attempt, Decoding, best, judge, max_tokens
from node.engines.whisper.model import Ears, load_model, memory_errors, rows_of
from node.engines.whisper.prepare import MEL_FRAMES, Reader
from node.engines.whisper.seat import Heard, Seat, Transcript
from node.engines.whisper.segments import Cut, cuts, segment_of, words_of
from node.scheduler.costs import StepCosts
from protos.errors import InputInvalid
from protos.types import AudioRequest, AudioResult, Modality, ModelId, Progress, SegmentDelta, Task, TaskId, Usage, Word

SHARED_ROWS: Final = range(2, 5)  # windows in a call while others wait: it cannot be interrupted, but holds up nobody
FULL_ROWS: Final = {"cpu": 8, "cuda": 16}  # while nobody does; on a CPU 16 gain nothing over 8
WARM_UP_TOKENS: Final = {"cpu": 16, "cuda": MAX_TOKENS}


def load(spec: ModelSpec, device: DeviceSpec) -> "WhisperEngine":
    """Reads a model that was converted for CTranslate2. Raises LoadFailed or DoesNotFit."""
    decoding = Decoding()
    ears = Ears(load_model(spec, device), decoding)
    return WhisperEngine(spec, ears, decoding, device.kind, threads=device.threads)


def bounded_rows(affordable: int | None) -> int:
    """Of a call while others wait; affordable: the windows that fit the quantum, None where no call has been measured.

    Not one, though one takes longer than any quantum on a CPU: two cost little more, for a token of two is one of one.
    """
    most = SHARED_ROWS[-1]
    return most if affordable is None else min(most, max(SHARED_ROWS[0], affordable))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one window got in one call. `heard` is absent where it must be tried again."""

    pick: Pick
    language: str
    attempt: Attempt
    heard: Heard | None


class WhisperEngine:
    """One loaded model. See node.engine.Engine for the contract."""

    modality = Modality.AUDIO
    context_tokens = 0

    def __init__(self, spec: ModelSpec, ears: Ears, decoding: Decoding, device_kind: str, *, threads: int = 1) -> None:
        """threads: that CTranslate2 computes in, which are its own: a call of it blocks only whoever waits for it."""
        self.model: ModelId = spec.id
        self.seats = spec.seats
        self.beside_threads = threads
        self._ears = ears
        self._decoding = decoding
        self._full_rows = FULL_ROWS[device_kind]
        self._warm_up_tokens = WARM_UP_TOKENS[device_kind]
        self._reader = Reader(ears.hf_tokenizer, ears.extractor, ears.languages)
        self._file_bytes = Path(spec.path, "model.bin").stat().st_size
        self._mels: int = ears.extractor.mel_filters.shape[0]
        self._seats: dict[TaskId, Seat] = {}
        self._costs = {bound: StepCosts() for bound in {max_tokens(s) for s in range(31)}}
        self._clock = 0  # counts admissions and steps

    @property
    def seated(self) -> int:
        return len(self._seats)

    def prepare(self, task: Task) -> Prepared:
        if not isinstance(task.request, AudioRequest):
            raise InputInvalid.at("request", f"is for {task.modality}, and {self.model} is a speech model")
        payload = self._reader.read(task.request)
        usage = Usage(
            input_tokens=len(payload.prompt),
            output_tokens=sum(vocal.max_tokens for vocal in payload.vocals),
            audio_seconds=payload.duration_s,
            device_seconds=sum(self._expected_s(vocal.max_tokens) for vocal in payload.vocals),
        )
        return Prepared(task=task, usage=usage, payload=payload)

    def admit(self, prepared: Prepared) -> bool:
        if len(self._seats) == self.seats:
            return False
        self._clock += 1
        self._seats[prepared.task.id] = Seat(prepared.task.id, prepared.payload, self._clock)
        return True

    def step(self, quantum_s: float | None) -> Step:
        speaking = [seat.waiting() for seat in self._seats.values() if seat.windows]
        with memory_errors():
            answers = self._call(*self._plan(speaking, quantum_s)) if speaking else []

        # Nothing above changes what the seats hold, so a step that the device fails can be tried again.
        self._clock += 1
        served = {seat.task_id: 1 for seat in self._seats.values() if not seat.windows}  # nobody speaks: done at once
        before = {task_id: seat.done for task_id, seat in self._seats.items()}
        for answer in answers:
            self._take(answer)
            served[answer.pick.task_id] = served.get(answer.pick.task_id, 0) + 1
        events = (self._events(self._seats[task_id], before[task_id]) for task_id in served)
        return Step(served, list(chain.from_iterable(events)))

    def cancel(self, task_id: TaskId) -> None:
        self._seats.pop(task_id, None)

    def finish(self, raw: Transcript) -> AudioResult:
        return AudioResult(raw.text, raw.language, raw.duration_s, tuple(raw.segments))

    def warm_up(self) -> None:
        """The largest call there can be: full rows that may not end before their bound.

        On a CPU they may after some tokens: the peak is the encoder's there, and a large model would take minutes.
        """
        key = Key(0, 0.0, self._warm_up_tokens)
        encoded = self._ears.encode([np.zeros((self._mels, MEL_FRAMES), np.float32)] * self._full_rows)
        prompt = self._ears.prompt([], "en", "transcribe")
        self._ears.generate(encoded, [prompt] * self._full_rows, key, forbidden=[self._ears.end_of_text])

    def held_bytes(self) -> int:
        """The files' bytes, twice where they may be halves that are computed as float32, and a call's windows."""
        widening = 2 if self._ears.compute_type == "float32" else 1
        return widening * self._file_bytes + self._full_rows * self._mels * MEL_FRAMES * 4

    def close(self) -> None:
        self._ears.unload()

    def _plan(self, waiting: Sequence[Waiting], quantum_s: float | None) -> tuple[Key, list[Pick]]:
        key = lead(waiting)
        return key, choose(waiting, key, self._rows(key, quantum_s))

    def _rows(self, key: Key, quantum_s: float | None) -> int:
        if quantum_s is None:
            return self._full_rows
        return bounded_rows(self._costs[key.max_tokens].units_within(quantum_s))

    def _expected_s(self, bound: int) -> float:
        """Of one window in a full call."""
        return (self._costs[bound].seconds(self._full_rows) or 0.0) / self._full_rows

    def _call(self, key: Key, picks: Sequence[Pick]) -> list[Answer]:
        """The device's part of a step."""
        started = time.perf_counter()
        seats = [self._seats[pick.task_id] for pick in picks]
        encoded = self._ears.encode([seat.payload.vocals[p.window].mel for seat, p in zip(seats, picks, strict=True)])
        languages = self._languages(seats, encoded)
        prompts = [
            self._ears.prompt(seat.payload.prompt, language, seat.payload.request.task)
            for seat, language in zip(seats, languages, strict=True)
        ]
        attempts = self._ears.generate(encoded, prompts, key)
        answers = self._judged(picks, languages, attempts, encoded)
        self._costs[key.max_tokens].observe(len(picks), time.perf_counter() - started)
        return answers

    def _languages(self, seats: Sequence[Seat], encoded: StorageView) -> list[str]:
        """Of each window; detected in the same call for those that do not know theirs yet."""
        if all(seat.language for seat in seats):
            return [seat.language for seat in seats]
        detected = self._ears.detect(encoded)
        return [seat.language or found for seat, found in zip(seats, detected, strict=True)]

    def _judged(
        self, picks: Sequence[Pick], languages: Sequence[str], attempts: Sequence[Attempt], encoded: StorageView
    ) -> list[Answer]:
        pieces = [self._pieces(pick, attempt) for pick, attempt in zip(picks, attempts, strict=True)]
        words = self._words(picks, languages, pieces, encoded)
        return [
            Answer(pick, language, attempt, None if piece is None else self._heard(pick, piece, said))
            for pick, language, attempt, piece, said in zip(picks, languages, attempts, pieces, words, strict=True)
        ]

    def _pieces(self, pick: Pick, attempt: Attempt) -> list[Cut] | None:
        """The window's text by its timestamps: nothing where nobody speaks, None where it must be tried again."""
        seat, verdict = self._seats[pick.task_id], judge(attempt, self._decoding)
        if verdict == "silent":
            return []
        if verdict == "retry":
            if not seat.is_last_try(pick.window):
                return None
            attempt = best([*seat.attempts(pick.window), attempt], self._decoding)
        duration_s = seat.payload.vocals[pick.window].duration_s
        return cuts(attempt.tokens, self._ears.first_timestamp, self._ears.end_of_text, duration_s)

    def _words(
        self,
        picks: Sequence[Pick],
        languages: Sequence[str],
        pieces: Sequence[list[Cut] | None],
        encoded: StorageView,
    ) -> list[list[list[Word]]]:
        """Of each piece of each window; aligned only where they were asked for, per start sequence."""
        found: list[list[list[Word]]] = [[[] for _ in piece or ()] for piece in pieces]
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for row, pick in enumerate(picks):
            request = self._seats[pick.task_id].payload.request
            if pieces[row] and request.word_timestamps:
                groups[languages[row], request.task].append(row)
        for (language, task), rows in groups.items():
            vocals = [self._seats[picks[row].task_id].payload.vocals[picks[row].window] for row in rows]
            texts = [[token for piece in pieces[row] or () for token in piece.tokens] for row in rows]
            frames = [vocal.mel.shape[1] for vocal in vocals]
            aligned = self._ears.align(rows_of(encoded, rows), texts, frames, language, task)
            for row, vocal, timings in zip(rows, vocals, aligned, strict=True):
                found[row] = words_of(timings, pieces[row] or (), vocal.window)
        return found

    def _heard(self, pick: Pick, pieces: Sequence[Cut], words: Sequence[Sequence[Word]]) -> Heard:
        window = self._seats[pick.task_id].payload.vocals[pick.window].window
        texts = [self._ears.text(piece.tokens) for piece in pieces]
        segments = [
            segment_of(piece, text, window, said)
            for piece, text, said in zip(pieces, texts, words, strict=True)
            if text.strip()
        ]
        return Heard("".join(texts), segments, sum(len(piece.tokens) for piece in pieces))

    def _take(self, answer: Answer) -> None:
        """What the answer changes in its seat."""
        seat = self._seats[answer.pick.task_id]
        seat.served = self._clock
        seat.language = answer.language
        if answer.heard is None:
            seat.try_again(answer.pick.window, answer.attempt)
        else:
            seat.finish(answer.pick.window, answer.heard)

    def _events(self, seat: Seat, before: int) -> Iterator[tuple[TaskId, StepEvent]]:
        """What a step in which the seat got from `before` finished windows to `seat.done` tells its caller."""
        for segment in seat.news():
            yield seat.task_id, SegmentDelta(segment)
        if seat.done == seat.windows:
            del self._seats[seat.task_id]
            yield seat.task_id, Done(seat.transcript(), seat.usage())
        elif seat.done > before:
            yield seat.task_id, Progress(seat.done / seat.windows, seat.done, seat.windows)
