"""The text engine: continuous batching of conversations over one transformers model.

Each step is one packed forward that mixes prefill chunks and decoding rows under one token budget. Nothing is ever
preempted: a seat is a slot of the whole context, so what was admitted can run to its end.
"""

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import torch

from node.engine import Failed, ModelSpec, Prepared, Step, StepEvent
from node.engines.text.attention import Chunk, packed
from node.engines.text.batch import Row, budget_of, plan
from node.engines.text.compute import Compute
from node.engines.text.flight import Flight, chosen, filled_in, land
from node.engines.text.graphs import Recorder
from node.engines.text.lengths import Lengths
from node.engines.text.model import TextModel, release
from node.engines.text.prepare import Reader, TextPayload
from node.engines.text.sampler import Choice, Draw, Sampling, choose
from node.engines.text.seat import Seat
from node.engines.text.seats import Group, Seats
from node.engines.text.upload import upload
from node.scheduler.costs import StepCosts
from protos.errors import FabricError, InputInvalid, Internal
from protos.types import Modality, ModelId, Task, TaskId, TextDelta, TextRequest, TextResult, Usage

_Events = list[tuple[TaskId, StepEvent]]

_HEAVIEST: Final = Sampling(top_p=0.9)  # sorts the vocabulary


class TextEngine:
    """One loaded model. See node.engine.Engine for the contract."""

    modality = Modality.TEXT
    beside_threads = 0

    def __init__(
        self,
        spec: ModelSpec,
        model: TextModel,
        reader: Reader,
        recorder: Recorder | None = None,
        *,
        is_ahead: bool = False,
    ) -> None:
        """recorder: of decoding steps; None: they are not recorded. is_ahead: a step is launched before the last one's
        tokens are here, where that is possible."""
        self.model: ModelId = spec.id
        self.seats = spec.seats
        self.context_tokens = reader.context_tokens
        self._step_tokens = spec.step_tokens
        self._model = model
        self._reader = reader
        self._end_tokens = model.end_tokens()
        self._compute = Compute(model, spec.seats, reader.context_tokens, recorder)
        self._pool = self._compute.pool
        self._is_ahead = is_ahead
        self._air: Flight | None = None  # the step that the device computes, or has computed, and nobody has read
        self._seats = Seats(self._pool)
        self._costs = StepCosts()
        self._lengths = Lengths()
        self._clock = 0  # counts admissions and steps

    @property
    def seated(self) -> int:
        return self._seats.requests

    def prepare(self, task: Task) -> Prepared:
        if not isinstance(task.request, TextRequest):
            raise InputInvalid.at("request", f"is for {task.modality}, and {self.model} is a text model")
        payload = self._reader.read(task.request)
        tokens = len(payload.prompt)
        usage = Usage(
            input_tokens=tokens,
            output_tokens=payload.max_tokens * payload.answers,
            device_seconds=self._expected_s(tokens, self._lengths.expected(payload.max_tokens), payload.answers),
        )
        return Prepared(task=task, usage=usage, payload=payload)

    def admit(self, prepared: Prepared) -> bool:
        payload: TextPayload = prepared.payload
        if not self._seats.has_room(payload.answers):
            return False
        self._clock += 1
        self._seats.add(Group(prepared.task.id, payload, self._reader.decode, self._clock))
        return True

    @torch.inference_mode()
    def step(self, quantum_s: float | None) -> Step:
        started = time.perf_counter()
        if self._air is not None and self._seats.held.isdisjoint(id(seat) for seat, _ in self._air.served):
            self._air = None  # all of its seats were left
        is_ahead = self._is_ahead and quantum_s is None and self._seats.are_plain
        size, step = self._step_ahead(go_on=is_ahead) if is_ahead or self._air else self._step_at_once(quantum_s)
        self._costs.observe(size, time.perf_counter() - started)
        return step

    def cancel(self, task_id: TaskId) -> None:
        self._seats.remove(task_id)

    def finish(self, raw: TextResult) -> TextResult:
        return raw

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Records the decoding steps. Then the longest prefill chunk and a decode of all seats at the end of the context;
        then two timed steps, so that the first request already has an estimate."""
        self._compute.record(self.model, min(self.seats, self._step_tokens))
        length = min(self._step_tokens, self.context_tokens)
        chunk = [Chunk(0, self.context_tokens - length, length)]
        singles = [Chunk(slot, self.context_tokens - 1, 1) for slot in range(min(self.seats, self._step_tokens))]
        for chunks in (chunk, singles):
            self._run_blank(chunks)
        for chunks in (chunk, singles[:1]):
            started = time.perf_counter()
            self._run_blank(chunks)
            self._costs.observe(sum(c.count for c in chunks), time.perf_counter() - started)

    def held_bytes(self) -> int:
        return self._model.bytes + self._compute.bytes

    def close(self) -> None:
        del self._pool, self._compute, self._seats, self._air
        release(self._model)

    def _expected_s(self, prompt_tokens: int, answer_tokens: float, answers: int) -> float:
        """Alone: the prompt in chunks, whose last gives the first tokens, then a step for each further token of all."""
        chunks, rest = divmod(prompt_tokens, self._step_tokens)
        sizes = ((self._step_tokens, chunks), (rest, 1 if rest else 0), (answers, answer_tokens - 1))
        return sum((self._costs.seconds(size) or 0.0) * times for size, times in sizes)

    def _affordable(self, quantum_s: float | None) -> int | None:
        return None if quantum_s is None else self._costs.units_within(quantum_s)

    def _step_at_once(self, quantum_s: float | None) -> tuple[int, Step]:
        """One step from its plan to its events, and its size."""
        served = self._planned(quantum_s)
        ready, logits = self._forward(served, None)
        is_sound = logits.amax(-1).isfinite().tolist()
        sound = [seat for seat, is_fine in zip(ready, is_sound, strict=True) if is_fine]
        broken = [seat for seat, is_fine in zip(ready, is_sound, strict=True) if not is_fine]
        if broken:
            logits = logits[torch.tensor(is_sound, dtype=torch.bool, device=logits.device)]
        choices = choose(logits, [seat.draw() for seat in sound])

        # Nothing above changes what the seats hold, so a step that the device fails can be tried again.
        for seat, chunk in served:
            seat.computed += chunk.count
        work = self._serve(served)
        return sum(work.values()), Step(work, self._accept(sound, choices) + self._fail(broken))

    def _step_ahead(self, *, go_on: bool) -> tuple[int, Step]:
        """What the step in the air did, once the next is launched. go_on: there may be a next."""
        if self._air is None:
            self._air = self._launch(None)
        flight = self._air
        ahead = self._launch(flight) if go_on else None
        self._air = None
        try:
            tokens, is_sound = flight.landing()
        except RuntimeError:  # of the device: nothing is known of what it was to compute
            self._seats.forget_computed()
            raise
        self._air = ahead
        return flight.size, self._settle(flight, tokens, is_sound)

    def _launch(self, last: Flight | None) -> Flight | None:
        """The next step, whose tokens nobody waits for. last: the one in the air. None when there is nothing to compute
        before the tokens of that are here."""
        served = self._planned(None)
        if not served:
            return None
        ready, logits = self._forward(served, last)
        tokens, is_sound = chosen(logits, [seat.draw() for seat in ready])
        flight = Flight(served, ready, tokens, land(tokens, is_sound))
        flight.take_off()
        return flight

    def _settle(self, flight: Flight, tokens: Sequence[int], is_sound: Sequence[int]) -> Step:
        """For those who still have their seats; to the others it says nothing."""
        held = self._seats.held
        work = self._serve([(seat, chunk) for seat, chunk in flight.served if id(seat) in held])
        sound: list[tuple[Seat, Choice]] = []
        broken: list[Seat] = []
        for seat, token, is_fine in zip(flight.ready, tokens, is_sound, strict=True):
            seat.flying -= 1
            if id(seat) in held and is_fine:
                sound.append((seat, Choice(token)))
            elif id(seat) in held:
                broken.append(seat)
        events = self._accept([seat for seat, _ in sound], [choice for _, choice in sound])
        return Step(work, events + self._fail(broken))

    def _planned(self, quantum_s: float | None) -> list[tuple[Seat, Chunk]]:
        """Who gets which tokens in the next step, in packed order."""
        self._seats.copy_prefixes()
        rows = [Row(seat.pending, seat.served, seat.arrival) for seat in self._seats]
        counts = plan(rows, budget_of(self._step_tokens, self._affordable(quantum_s)))
        chunks = [Chunk(slot, self._seats[slot].computed, count) for slot, count in enumerate(counts) if count]
        return [(self._seats[chunks[i].slot], chunks[i]) for i in packed(chunks)]

    def _forward(self, served: Sequence[tuple[Seat, Chunk]], last: Flight | None) -> tuple[list[Seat], torch.Tensor]:
        """The seats whose known tokens are now all computed, and their logits (seats, vocabulary). last: the step in the
        air, which has the tokens that are not known here."""
        ids: list[int] = []
        ready: list[Seat] = []
        rows: list[int] = []
        late: list[tuple[int, int]] = []
        for seat, chunk in served:
            if seat.flying:
                late.append((len(ids), last.ready.index(seat)))
                ids.append(0)
            else:
                ids += seat.ids[chunk.start : chunk.start + chunk.count]
            if chunk.start + chunk.count == seat.known:
                begun = [seat, *self._seats.behind(seat)]
                ready += begun
                rows += [len(ids) - 1] * len(begun)
        on_device = filled_in(upload(ids, torch.long, self._model.device), late, last)
        return ready, self._compute.run(on_device, [chunk for _, chunk in served], rows)

    def _run_blank(self, chunks: Sequence[Chunk]) -> None:
        """A step of token 0, its logits sampled in the costliest way."""
        ids = [0] * sum(chunk.count for chunk in chunks)
        ends = [end - 1 for end in accumulate(chunk.count for chunk in chunks)]
        logits = self._compute.run(upload(ids, torch.long, self._model.device), chunks, ends)
        choose(logits, [Draw(_HEAVIEST, 0.5)] * len(chunks))

    def _serve(self, served: Sequence[tuple[Seat, Chunk]]) -> dict[TaskId, int]:
        """The work of a step, by task."""
        self._clock += 1
        work: dict[TaskId, int] = {}
        for seat, chunk in served:
            seat.served = self._clock
            work[seat.task_id] = work.get(seat.task_id, 0) + chunk.count
        return work

    def _accept(self, seats: Sequence[Seat], choices: Sequence[Choice]) -> _Events:
        for seat in seats:
            if self._seats.behind(seat):
                self._seats.branch(seat)
        events: _Events = []
        for seat, choice in zip(seats, choices, strict=True):
            if self._seats.has(seat.task_id):  # another of its answers may have failed in this step
                events += self._said(seat, choice)
        return events

    def _said(self, seat: Seat, choice: Choice) -> _Events:
        events: _Events = []
        try:
            said = seat.accept(choice, self._end_tokens)
        except FabricError as error:  # its format cannot go on
            self._seats.remove(seat.task_id)
            return [(seat.task_id, Failed(error))]
        if said.text or said.logprobs:
            events.append((seat.task_id, TextDelta(said.text, seat.answer, said.logprobs)))
        if said.finish_reason:
            self._lengths.observe(seat.answer_tokens, was_cut=said.finish_reason == "length")
            done = self._seats.end(seat, said.finish_reason)
            if done is not None:
                events.append((seat.task_id, done))
        return events

    def _fail(self, seats: Sequence[Seat]) -> _Events:
        """Rows without finite logits: a fault of theirs alone, since rows do not see each other."""
        events: _Events = []
        for seat in seats:
            if not self._seats.has(seat.task_id):
                continue  # one answer's fault ends the request
            message = f"{self.model} gave no finite number after {len(seat.ids)} tokens: shorten or change the prompt"
            events.append((seat.task_id, Failed(Internal(message))))
            self._seats.remove_poisoned(seat.task_id)
        return events
