"""One running answer: its tokens, its random stream, its text and what may come next.

Not about slots of the KV cache (seats.py).
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from node.engines.text.detokenize import Decode, Detokenizer
from node.engines.text.logprobs import Shown
from node.engines.text.penalties import Tally
from node.engines.text.prepare import TextPayload
from node.engines.text.sampler import Choice, Draw
from node.engines.text.stops import StopFilter
from protos.types import ChosenToken, TaskId, TextResult

_SEED_MASK: Final = (1 << 64) - 1  # any integer is a seed

Reason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one more token added to the answer, and why the answer ends with it, if it does."""

    text: str
    finish_reason: Reason | None = None
    logprobs: tuple[ChosenToken, ...] = ()


class Seat:
    """One answer; a request that asks for several has as many."""

    def __init__(self, task_id: TaskId, payload: TextPayload, decode: Decode, arrival: int, answer: int = 0) -> None:
        self.task_id, self.answer = task_id, answer
        self.arrival = arrival
        self.served = arrival  # the number of the last step that served it
        self.computed = 0  # tokens whose keys and values are in its slot
        self.copied_tokens = 0  # of these, those that another slot held
        self.ids = list(payload.prompt)  # prompt and answer
        self._payload = payload
        self._detokenizer = Detokenizer(decode)
        self._stops = StopFilter(payload.stops)
        self._text: list[str] = []
        self._shown = Shown(payload.spell) if payload.spell is not None else None
        self._logprobs: list[ChosenToken] = []
        self._matcher = payload.format.matcher() if payload.format is not None else None
        self._tally = _tally(payload)
        self._random = _stream(payload.seed, answer)
        self._uniforms: deque[float] = deque()  # drawn for tokens that were not accepted yet
        self.flying = 0  # tokens that steps under way give it, after those that are known

    @property
    def known(self) -> int:
        """Tokens that it has, though not all are on the host."""
        return len(self.ids) + self.flying

    @property
    def pending(self) -> int:
        """Tokens left to compute. None when those under way are its last: they are not read again."""
        if self.flying and self.answer_tokens + self.flying >= self._payload.max_tokens:
            return 0
        return self.known - self.computed

    @property
    def is_plain(self) -> bool:
        """Its next token can be chosen before the last one is known here."""
        return self._matcher is None and self._tally is None and self._payload.logprobs is None

    @property
    def prompt_tokens(self) -> int:
        return len(self._payload.prompt)

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - len(self._payload.prompt)

    def draw(self) -> Draw:
        """What its next token is chosen by. The same until a token is accepted, so that a step can be tried again."""
        allowed = None if self._matcher is None else self._matcher.allowed
        return Draw(self._payload.sampling, self._uniform(), self._tally, allowed, self._payload.logprobs)

    def accept(self, choice: Choice, end_tokens: frozenset[int]) -> Said:
        """The next token of the answer. Takes one number of its random stream, whatever the batch. Raises InputInvalid
        where its format cannot go on."""
        self.ids.append(choice.token)
        if self._tally is not None:
            self._tally.add(choice.token)
        if self._uniforms:
            self._uniforms.popleft()
        said = self._say(choice, is_end=choice.token in end_tokens)
        self._text.append(said.text)
        self._logprobs += said.logprobs
        return said

    def _uniform(self) -> float:
        """Of the next token after those under way."""
        if self._payload.sampling.is_greedy:
            return 0.0
        while len(self._uniforms) <= self.flying:
            self._uniforms.append(self._random.random())
        return self._uniforms[self.flying]

    def result(self, reason: Reason) -> TextResult:
        return TextResult("".join(self._text), reason, tuple(self._logprobs))

    def _say(self, choice: Choice, *, is_end: bool) -> Said:
        if is_end:
            return self._end("", "stop")
        if self._matcher is not None:
            self._matcher.accept(choice.token)
        text = self._detokenizer.push(choice.token)
        if self._shown is not None and choice.scores is not None:
            self._shown.push(choice.token, choice.scores, text)
        shown, is_stopped = self._stops.push(text)
        if is_stopped:
            return self._told(shown, "stop")
        if self._matcher is not None and self._matcher.is_complete:
            return self._end(shown, "stop")
        if self.answer_tokens == self._payload.max_tokens:
            return self._end(shown, "length")
        return self._told(shown)

    def _end(self, shown: str, reason: Reason) -> Said:
        """With what was held back; a stop string may still be completed by it."""
        rest, is_stopped = self._stops.push(self._detokenizer.flush())
        if is_stopped:
            return self._told(shown + rest, "stop")
        told = self._told(shown + rest + self._stops.flush(), reason)
        left = self._shown.rest() if self._shown is not None else ()
        return Said(told.text, reason, told.logprobs + left)

    def _told(self, shown: str, reason: Reason | None = None) -> Said:
        return Said(shown, reason, self._shown.take(shown) if self._shown is not None else ())


def _tally(payload: TextPayload) -> Tally | None:
    """A repetition is one of the prompt's words too; the other penalties are for the answer alone."""
    if not payload.sampling.is_penalised:
        return None
    return Tally(payload.prompt if payload.sampling.repetition_penalty != 1 else ())


def _stream(seed: int | None, answer: int) -> np.random.Generator:
    """Of each answer its own; of the first that of a request for one answer, so that asking for more changes nothing."""
    entropy = None if seed is None else seed & _SEED_MASK
    sequence = np.random.SeedSequence(entropy, spawn_key=(answer,) if answer else ())
    return np.random.Generator(np.random.PCG64(sequence))
