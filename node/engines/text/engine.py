"""The text engine: continuous batching of conversations over one transformers model.

Each step is one packed forward that mixes prefill chunks and decoding rows under one token budget. Nothing is ever
preempted: a seat is a slot of the whole context, so what was admitted can run to its end.
"""

import logging
import time
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import torch
from transformers import AutoTokenizer

from node.engine import DeviceSpec, Failed, ModelSpec, Prepared, Step, StepEvent
from node.engines.text.attention import Chunk, packed
from node.engines.text.batch import Row, budget_of, plan
from node.engines.text.graphs import CudaRecorder, Graphs, Recorder
from node.engines.text.kv import TokenPool
from node.engines.text.lengths import Lengths
from node.engines.text.model import TextModel, load_model, release
from node.engines.text.path import row_counts
from node.engines.text.prepare import Reader, TextPayload
from node.engines.text.sampler import Choice, Draw, Sampling, choose
from node.engines.text.seat import Seat
from node.engines.text.seats import Group, Seats
from node.engines.text.upload import upload
from node.engines.text.vocabulary import Vocabulary
from node.scheduler.costs import StepCosts
from protos.errors import FabricError, InputInvalid, Internal, LoadFailed
from protos.types import Modality, ModelId, Task, TaskId, TextDelta, TextRequest, TextResult, Usage

_log = logging.getLogger(__name__)

_Events = list[tuple[TaskId, StepEvent]]

_HEAVIEST: Final = Sampling(top_p=0.9)  # sorts the vocabulary


def load(spec: ModelSpec, device: DeviceSpec) -> "TextEngine":
    """Reads the model's files and proves that its answers will be its own. Raises LoadFailed or DoesNotFit."""
    if device.kind == "cpu":
        torch.set_num_threads(device.threads)
    model = load_model(spec, device)
    return around(model, spec, CudaRecorder(model.device) if model.attend is not None else None)


def around(model: TextModel, spec: ModelSpec, recorder: Recorder | None = None) -> "TextEngine":
    """The engine of a model that was proven. recorder: of its decoding steps; None: they are not recorded. Raises
    LoadFailed."""
    tokenizer = _tokenizer(spec)
    vocabulary = Vocabulary(tokenizer, model.vocabulary, model.end_tokens())
    reader = Reader(tokenizer, vocabulary, context_tokens=_context_tokens(spec, model), seats=spec.seats)
    return TextEngine(spec, model, reader, recorder)


class TextEngine:
    """One loaded model. See node.engine.Engine for the contract."""

    modality = Modality.TEXT
    beside_threads = 0

    def __init__(self, spec: ModelSpec, model: TextModel, reader: Reader, recorder: Recorder | None = None) -> None:
        self.model: ModelId = spec.id
        self.seats = spec.seats
        self.context_tokens = reader.context_tokens
        self._step_tokens = spec.step_tokens
        self._model = model
        self._reader = reader
        self._end_tokens = model.end_tokens()
        self._pool = model.new_pool(spec.seats, reader.context_tokens)
        self._recorder = recorder
        self._graphs: Graphs | None = None  # until it is warm
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
        self._seats.copy_prefixes()
        rows = [Row(seat.pending, seat.served, seat.arrival) for seat in self._seats]
        counts = plan(rows, budget_of(self._step_tokens, self._affordable(quantum_s)))
        ready, logits = self._forward(counts)
        is_sound = logits.amax(-1).isfinite().tolist()
        sound = [seat for seat, is_fine in zip(ready, is_sound, strict=True) if is_fine]
        broken = [seat for seat, is_fine in zip(ready, is_sound, strict=True) if not is_fine]
        if broken:
            logits = logits[torch.tensor(is_sound, dtype=torch.bool, device=logits.device)]
        choices = choose(logits, [seat.draw() for seat in sound])

        # Nothing above changes what the seats hold, so a step that the device fails can be tried again.
        work = self._advance(counts)
        events = self._accept(sound, choices) + self._fail(broken)
        self._costs.observe(sum(counts), time.perf_counter() - started)
        return Step(work, events)

    def cancel(self, task_id: TaskId) -> None:
        self._seats.remove(task_id)

    def finish(self, raw: TextResult) -> TextResult:
        return raw

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Records the decoding steps. Then the longest prefill chunk and a decode of all seats at the end of the context, then two timed steps, so that
        the first request already has an estimate."""
        self._record()
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
        return self._model.bytes + self._pool.bytes + (self._graphs.bytes if self._graphs is not None else 0)

    def close(self) -> None:
        del self._pool, self._seats, self._graphs
        release(self._model)

    def _expected_s(self, prompt_tokens: int, answer_tokens: float, answers: int) -> float:
        """Alone: the prompt in chunks, whose last gives the first tokens, then a step for each further token of all."""
        chunks, rest = divmod(prompt_tokens, self._step_tokens)
        sizes = ((self._step_tokens, chunks), (rest, 1 if rest else 0), (answers, answer_tokens - 1))
        return sum((self._costs.seconds(size) or 0.0) * times for size, times in sizes)

    def _affordable(self, quantum_s: float | None) -> int | None:
        return None if quantum_s is None else self._costs.units_within(quantum_s)

    def _forward(self, counts: Sequence[int]) -> tuple[list[Seat], torch.Tensor]:
        """The seats whose known tokens are now all computed, and their logits (seats, vocabulary)."""
        chunks = [Chunk(slot, self._seats[slot].computed, count) for slot, count in enumerate(counts) if count]
        chunks = [chunks[i] for i in packed(chunks)]
        ids: list[int] = []
        ready: list[Seat] = []
        rows: list[int] = []
        for chunk in chunks:
            seat, end = self._seats[chunk.slot], chunk.start + chunk.count
            ids += seat.ids[chunk.start : end]
            if end == len(seat.ids):
                begun = [seat, *self._seats.behind(seat)]
                ready += begun
                rows += [len(ids) - 1] * len(begun)
        return ready, self._run(ids, chunks, rows)

    def _record(self) -> None:
        if self._recorder is None or not isinstance(self._pool, TokenPool):
            return
        counts = row_counts(min(self.seats, self._step_tokens), self.context_tokens)
        try:
            self._graphs = Graphs(self._model, self._pool, self._recorder, counts)
        except (LoadFailed, RuntimeError) as refusal:
            _log.warning("model %s decodes without graphs: %s", self.model, refusal)
        else:
            _log.info("model %s: decode: graphs at %s rows", self.model, ", ".join(map(str, counts)))

    def _run(self, ids: Sequence[int], chunks: Sequence[Chunk], rows: Sequence[int]) -> torch.Tensor:
        on_device = upload(ids, torch.long, self._model.device)
        return (self._graphs or self._model).run(on_device, chunks, self._pool, rows)

    def _run_blank(self, chunks: Sequence[Chunk]) -> None:
        """A step of token 0, its logits sampled in the costliest way."""
        ids = [0] * sum(chunk.count for chunk in chunks)
        ends = [end - 1 for end in accumulate(chunk.count for chunk in chunks)]
        logits = self._run(ids, chunks, ends)
        choose(logits, [Draw(_HEAVIEST, 0.5)] * len(chunks))

    def _advance(self, counts: Sequence[int]) -> dict[TaskId, int]:
        self._clock += 1
        work: dict[TaskId, int] = {}
        for seat, count in zip(self._seats, counts, strict=True):
            if count:
                seat.computed += count
                seat.served = self._clock
                work[seat.task_id] = work.get(seat.task_id, 0) + count
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


def _tokenizer(spec: ModelSpec) -> AutoTokenizer:
    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as exc:
        raise LoadFailed(f"the tokenizer of {spec.id} could not be read from {spec.path}: {exc}") from exc
    if not tokenizer.is_fast:
        raise LoadFailed(f"{spec.id} has no tokenizer.json in {spec.path}: convert its tokenizer to a fast one")
    return tokenizer


def _context_tokens(spec: ModelSpec, model: TextModel) -> int:
    """Raises LoadFailed when models.toml asks for more than the model has, or neither says."""
    stated, wanted = model.context_tokens, spec.context_tokens
    if not stated and not wanted:
        raise LoadFailed(f"{spec.id} states no context length: set context_tokens for it in models.toml")
    if stated and wanted and wanted > stated:
        raise LoadFailed(f"context_tokens of {spec.id} is {wanted} and the model was made for {stated}: lower it")
    return wanted or stated
