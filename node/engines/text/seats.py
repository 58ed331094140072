"""Who sits in the batch: each request's tokens, random stream and text, and its slot of the KV cache.

Not about what a step computes (engine.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from node.engines.text.detokenize import Decode, Detokenizer
from node.engines.text.kv import KvPool
from node.engines.text.prepare import TextPayload
from node.engines.text.sampler import Draw
from node.engines.text.stops import StopFilter
from protos.types import TaskId, TextResult

_SEED_MASK: Final = (1 << 64) - 1  # any integer is a seed


@dataclass(frozen=True, slots=True)
class Said:
    """What one more token added to the answer, and why the answer ends with it, if it does."""

    text: str
    finish_reason: Literal["stop", "length"] | None = None


class Seat:
    """One running request."""

    def __init__(self, task_id: TaskId, payload: TextPayload, decode: Decode, arrival: int) -> None:
        self.task_id = task_id
        self.arrival = arrival
        self.served = arrival  # the number of the last step that served it
        self.computed = 0  # tokens whose keys and values are in its slot
        self.ids = list(payload.prompt)  # prompt and answer
        self._payload = payload
        self._detokenizer = Detokenizer(decode)
        self._stops = StopFilter(payload.stops)
        self._text: list[str] = []
        seed = None if payload.seed is None else payload.seed & _SEED_MASK
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._uniform = 0.0 if payload.sampling.is_greedy else self._random.random()

    @property
    def pending(self) -> int:
        return len(self.ids) - self.computed

    @property
    def prompt_tokens(self) -> int:
        return len(self._payload.prompt)

    @property
    def answer_tokens(self) -> int:
        return len(self.ids) - len(self._payload.prompt)

    def draw(self) -> Draw:
        """What its next token is chosen by. The same until a token is accepted, so that a step can be tried again."""
        return Draw(self._payload.sampling, self._uniform, self.ids)

    def accept(self, token: int, end_tokens: frozenset[int]) -> Said:
        """The next token of the answer. Takes one number of its random stream, whatever the batch."""
        self.ids.append(token)
        if not self._payload.sampling.is_greedy:
            self._uniform = self._random.random()
        said = self._say(token, end_tokens)
        self._text.append(said.text)
        return said

    def _say(self, token: int, end_tokens: frozenset[int]) -> Said:
        if token in end_tokens:
            return self._end("", "stop")
        shown, is_stopped = self._stops.push(self._detokenizer.push(token))
        if is_stopped:
            return Said(shown, "stop")
        if self.answer_tokens == self._payload.max_tokens:
            return self._end(shown, "length")
        return Said(shown)

    def _end(self, shown: str, reason: Literal["stop", "length"]) -> Said:
        """With what was held back; a stop string may still be completed by it."""
        rest, is_stopped = self._stops.push(self._detokenizer.flush())
        if is_stopped:
            return Said(shown + rest, "stop")
        return Said(shown + rest + self._stops.flush(), reason)

    def result(self, reason: Literal["stop", "length"]) -> TextResult:
        return TextResult("".join(self._text), reason)


class Seats:
    """The seats in the order of their slots, always 0 to n - 1: when one leaves, the last moves into its slot."""

    def __init__(self, pool: KvPool) -> None:
        self._pool = pool
        self._seats: list[Seat] = []

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats)

    def __getitem__(self, slot: int) -> Seat:
        return self._seats[slot]

    @property
    def is_full(self) -> bool:
        return len(self._seats) == self._pool.slots

    def add(self, seat: Seat) -> None:
        assert not self.is_full, "a request was seated where there is no slot: this is a bug"
        self._seats.append(seat)

    def remove(self, task_id: TaskId) -> None:
        """Nothing when the task has no seat."""
        slot = next((slot for slot, seat in enumerate(self._seats) if seat.task_id == task_id), None)
        if slot is None:
            return
        last = self._seats.pop()
        if slot < len(self._seats):
            self._pool.move(len(self._seats), slot, last.computed)
            self._seats[slot] = last

    def remove_poisoned(self, task_id: TaskId) -> None:
        """As `remove`, and no value that is not finite stays behind in a slot."""
        slot = next(slot for slot, seat in enumerate(self._seats) if seat.task_id == task_id)
        self._pool.clear(slot)
        self.remove(task_id)
        self._pool.clear(len(self._seats))
