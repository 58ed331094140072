"""Who sits in the batch: the answers of each request, and their slots of the KV cache.

Not about one answer (seat.py) nor about what a step computes (engine.py).
"""

from collections.abc import Iterator, Sequence

from node.engine import Done
from node.engines.text.detokenize import Decode
from node.engines.text.kv import KvPool
from node.engines.text.prefix import LEAST_TOKENS, donor
from node.engines.text.prepare import TextPayload
from node.engines.text.seat import Reason, Seat
from protos.types import TaskId, TextResult, Usage


class Group:
    """The answers to one request. The first one's seat computes the prompt; the others wait for that, their slots kept."""

    def __init__(self, task_id: TaskId, payload: TextPayload, decode: Decode, arrival: int) -> None:
        self.task_id = task_id
        self.first, *others = (Seat(task_id, payload, decode, arrival, answer) for answer in range(payload.answers))
        self.waiting: Sequence[Seat] = others
        self.size = payload.answers
        self._results: dict[int, TextResult] = {}
        self._tokens = 0

    def end(self, seat: Seat, reason: Reason) -> Done | None:
        """One answer is complete; the result when it was the last."""
        self._results[seat.answer] = seat.result(reason)
        self._tokens += seat.answer_tokens
        if len(self._results) < self.size:
            return None
        first, *more = (self._results[answer] for answer in range(self.size))
        result = TextResult(first.text, first.finish_reason, first.logprobs, tuple(more))
        usage = Usage(
            input_tokens=seat.prompt_tokens, output_tokens=self._tokens, cached_tokens=self.first.copied_tokens
        )
        return Done(result, usage)


class Seats:
    """The seats in the order of their slots, always 0 to n - 1: when one leaves, the last moves into its slot."""

    def __init__(self, pool: KvPool) -> None:
        self._pool = pool
        self._seats: list[Seat] = []
        self._groups: dict[TaskId, Group] = {}
        self._left: list[list[int]] = [[] for _ in range(pool.slots)]  # tokens that a slot holds of one who left

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(self._seats)

    def __getitem__(self, slot: int) -> Seat:
        return self._seats[slot]

    @property
    def requests(self) -> int:
        return len(self._groups)

    def has(self, task_id: TaskId) -> bool:
        return task_id in self._groups

    @property
    def are_plain(self) -> bool:
        """The next tokens of all can be chosen before the last ones are known here."""
        return all(seat.is_plain and not self.behind(seat) for seat in self._seats)

    @property
    def held(self) -> set[int]:
        """The identities of those seated: when one is left, a task of the same name may take another."""
        return {id(seat) for seat in self._seats}

    def forget_computed(self) -> None:
        """Nothing is known of what the slots hold."""
        self._left = [[] for _ in self._left]
        for seat in self._seats:
            seat.computed = seat.flying = 0

    def has_room(self, answers: int) -> bool:
        """For all of them, or they wait outside."""
        kept = sum(len(group.waiting) for group in self._groups.values())
        return len(self._seats) + kept + answers <= self._pool.slots

    def add(self, group: Group) -> None:
        assert self.has_room(group.size), "a request was seated where there are no slots: this is a bug"
        self._groups[group.task_id] = group
        self._seats.append(group.first)

    def copy_prefixes(self) -> None:
        """Those whose prompts are not computed get what another slot holds of the beginning, running or left.

        Asked before every step, not only when a seat is taken: of many who come at once the first compute what they share.
        """
        if not self._pool.can_share or all(seat.pending <= 1 for seat in self._seats):
            return
        held = [seat.ids[: seat.computed] for seat in self._seats] + self._left[len(self._seats) :]
        for slot, seat in enumerate(self._seats):
            if seat.pending > 1:
                source, tokens = donor(seat.ids, [*held[:slot], self._left[slot], *held[slot + 1 :]])
                if tokens >= seat.computed + LEAST_TOKENS:
                    self._pool.move(source, slot, tokens)
                    seat.copied_tokens += tokens - seat.computed
                    seat.computed = tokens
                self._left[slot] = []  # the step may write over it

    def behind(self, seat: Seat) -> Sequence[Seat]:
        """The other answers that wait for this one's prompt: the same logits begin them all."""
        return self._groups[seat.task_id].waiting

    def branch(self, seat: Seat) -> None:
        """Its prompt is computed: those behind it take their slots, each with a copy."""
        group, source = self._groups[seat.task_id], self._seats.index(seat)
        for other in group.waiting:
            self._pool.move(source, len(self._seats), seat.computed)
            other.computed, other.served = seat.computed, seat.served
            self._seats.append(other)
        group.waiting = ()

    def end(self, seat: Seat, reason: Reason) -> Done | None:
        """One answer leaves; the result of its request when it was the last."""
        done = self._groups[seat.task_id].end(seat, reason)
        self._leave(self._seats.index(seat))
        if done is not None:
            del self._groups[seat.task_id]
        return done

    def remove(self, task_id: TaskId) -> None:
        """All of its answers. Nothing when the task has no seat."""
        if self._groups.pop(task_id, None) is not None:
            for slot in self._slots_of(task_id):
                self._leave(slot)

    def remove_poisoned(self, task_id: TaskId) -> None:
        """As `remove`, and no value that is not finite stays behind in a slot."""
        del self._groups[task_id]
        for slot in self._slots_of(task_id):
            self._pool.clear(slot)
            self._leave(slot)
            self._pool.clear(len(self._seats))
            self._left[len(self._seats)] = []

    def _slots_of(self, task_id: TaskId) -> list[int]:
        """From the last on: who moves into one that is left is then of another request."""
        return [slot for slot in reversed(range(len(self._seats))) if self._seats[slot].task_id == task_id]

    def _leave(self, slot: int) -> None:
        gone, last, end = self._seats[slot], self._seats.pop(), len(self._seats)
        if last.computed:
            self._left[end] = last.ids[: last.computed]  # also where it moves: its slot keeps a copy
        if slot < end:
            self._pool.move(end, slot, last.computed)
            self._seats[slot] = last
            self._left[slot] = [] if last.computed else gone.ids[: gone.computed]
