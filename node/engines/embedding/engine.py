"""The embedding engine: texts of many requests packed into one forward per step, by a token budget."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from node.engine import DeviceSpec, Done, Failed, ModelSpec, Prepared, Step, StepEvent
from node.engines.embedding.batch import Row, plan
from node.engines.embedding.model import EmbeddingModel, load_model, release
from node.engines.embedding.prepare import EmbeddingPayload, Reader
from node.scheduler.costs import StepCosts
from protos.errors import InputInvalid, Internal
from protos.types import EmbeddingRequest, EmbeddingResult, Modality, ModelId, Progress, Task, TaskId, Usage


def load(spec: ModelSpec, device: DeviceSpec) -> "EmbeddingEngine":
    """Reads the model's files and proves that its vectors will be its own. Raises LoadFailed or DoesNotFit."""
    if device.kind == "cpu":
        torch.set_num_threads(device.threads)
    model, tokenizer = load_model(spec, device)
    return EmbeddingEngine(spec, model, Reader(model, tokenizer))


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a finished task takes from the device: one vector per text, as the model gives them."""

    rows: NDArray[np.float32]
    payload: EmbeddingPayload


class Seat:
    """One running request."""

    def __init__(self, task_id: TaskId, payload: EmbeddingPayload, served: int) -> None:
        self.task_id = task_id
        self.payload = payload
        self.served = served  # the number of the last step that served it
        self.lengths = [len(ids) for ids in payload.texts]
        self.vectors: list[NDArray[np.float32]] = []  # of the first texts; the rest is waiting

    @property
    def done(self) -> int:
        return len(self.vectors)

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.lengths)


class EmbeddingEngine:
    """One loaded model. See node.engine.Engine for the contract."""

    modality = Modality.EMBEDDING
    beside_threads = 0

    def __init__(self, spec: ModelSpec, model: EmbeddingModel, reader: Reader) -> None:
        self.model: ModelId = spec.id
        self.seats = spec.seats
        self.context_tokens = reader.max_tokens
        self._step_tokens = spec.step_tokens
        self._model = model
        self._reader = reader
        self._seats: dict[TaskId, Seat] = {}
        self._costs = StepCosts()
        self._clock = 0  # counts admissions and steps

    @property
    def seated(self) -> int:
        return len(self._seats)

    def prepare(self, task: Task) -> Prepared:
        if not isinstance(task.request, EmbeddingRequest):
            raise InputInvalid.at("request", f"is for {task.modality}, and {self.model} is an embedding model")
        payload = self._reader.read(task.request)
        tokens = sum(map(len, payload.texts))
        usage = Usage(input_tokens=tokens, device_seconds=self._expected_s(tokens))
        return Prepared(task=task, usage=usage, payload=payload)

    def admit(self, prepared: Prepared) -> bool:
        if len(self._seats) == self.seats:
            return False
        self._clock += 1
        self._seats[prepared.task.id] = Seat(prepared.task.id, prepared.payload, self._clock)
        return True

    def step(self, quantum_s: float | None) -> Step:
        started = time.perf_counter()
        seats = list(self._seats.values())
        counts = plan([Row(seat.lengths[seat.done :], seat.served) for seat in seats], self._budget(quantum_s))
        chosen = [(seat, count) for seat, count in zip(seats, counts, strict=True) if count]
        vectors = self._embed([ids for seat, n in chosen for ids in seat.payload.texts[seat.done : seat.done + n]])

        # Nothing above changes what the seats hold, so a step that the device fails can be tried again.
        self._clock += 1
        work: dict[TaskId, int] = {}
        events: list[tuple[TaskId, StepEvent]] = []
        at = 0
        for seat, count in chosen:
            work[seat.task_id] = sum(seat.lengths[seat.done : seat.done + count])
            events.append((seat.task_id, self._advance(seat, vectors[at : at + count])))
            at += count
        self._costs.observe(sum(work.values()), time.perf_counter() - started)
        return Step(work, events)

    def cancel(self, task_id: TaskId) -> None:
        self._seats.pop(task_id, None)

    def finish(self, raw: Vectors) -> EmbeddingResult:
        """Cut to the dimensions that were asked for (Matryoshka), and of length 1 again unless that was declined."""
        rows = raw.rows[:, : raw.payload.dimensions]
        if raw.payload.is_normalized:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return EmbeddingResult(raw.payload.dimensions, np.ascontiguousarray(rows, dtype="<f4").tobytes())

    def warm_up(self) -> None:
        """One text as long as it may be, then full steps: of texts of middle length and of short ones, timed."""
        longest = min(self.context_tokens, self._step_tokens)
        self._embed([[0] * self.context_tokens])
        for length in (longest, max(1, longest // 4)):
            texts = [[0] * length] * (self._step_tokens // length)
            started = time.perf_counter()
            self._embed(texts)
            self._costs.observe(length * len(texts), time.perf_counter() - started)

    def held_bytes(self) -> int:
        return self._model.bytes

    def close(self) -> None:
        release(self._model)

    def _budget(self, quantum_s: float | None) -> int:
        affordable = None if quantum_s is None else self._costs.units_within(quantum_s)
        return self._step_tokens if affordable is None else min(self._step_tokens, affordable)

    def _expected_s(self, tokens: int) -> float:
        """Alone: full steps and a rest."""
        steps, rest = divmod(tokens, self._step_tokens)
        full = (self._costs.seconds(self._step_tokens) or 0.0) * steps
        return full + ((self._costs.seconds(rest) or 0.0) if rest else 0.0)

    @torch.inference_mode()
    def _embed(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._model.embed(texts).cpu().numpy()

    def _advance(self, seat: Seat, vectors: NDArray[np.float32]) -> StepEvent:
        """What these further vectors are for their task: its end or some progress."""
        seat.served = self._clock
        if not np.isfinite(vectors).all():
            del self._seats[seat.task_id]
            return Failed(
                Internal(f"{self.model} gave no finite vector for one of texts {seat.done} and on: leave it out")
            )
        seat.vectors.extend(vectors)
        total = len(seat.lengths)
        if not seat.is_complete:
            return Progress(seat.done / total, seat.done, total)
        del self._seats[seat.task_id]
        return Done(Vectors(np.stack(seat.vectors), seat.payload), Usage(input_tokens=sum(seat.lengths)))
