"""Ways to answer many chats, each timed the same way: our engine, transformers' generate and its continuous batching.

What they leave out on every side: HTTP, gRPC, the scheduler.
"""

import heapq
import itertools
import logging
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from node.engine import DeviceSpec, Done, Engine, ModelSpec
from node.engines.linears import pack
from node.engines.text import load
from protos.types import Modality, ModelId, Task, TaskId, TextDelta, TextRequest
from scripts.bench.lib.text_models import word


@dataclass(frozen=True)
class Chat:
    """A greedy request of exact lengths that arrives at a time."""

    prompt: Sequence[int]
    max_tokens: int
    at_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """What one way took for all chats."""

    answers: Sequence[Sequence[int]]
    first_s: Sequence[float]  # from a chat's arrival to its first token
    total_s: float

    @property
    def rate(self) -> float:
        return sum(map(len, self.answers)) / self.total_s

    @property
    def first_p95_s(self) -> float:
        return sorted(self.first_s)[max(0, -(-len(self.first_s) * 95 // 100) - 1)]


class Ours:
    """The text engine, stepped as the device loop steps it when it has nothing else."""

    def __init__(
        self, folder: Path, seats: int, threads: int, *, kind: str = "cpu", **changes: Any
    ) -> None:  # Any: fields of ModelSpec
        spec = ModelSpec(
            id=ModelId("bench"), engine="text", modality=Modality.TEXT, path=str(folder), seats=seats, **changes
        )
        self.engine: Engine = load(spec, DeviceSpec(kind, 0, threads))
        self.engine.warm_up()

    def run(self, chats: Sequence[Chat]) -> Run:
        prepared = [
            self.engine.prepare(
                Task(
                    id=TaskId(str(i)),
                    request=TextRequest(
                        prompt=" ".join(map(word, chat.prompt)), temperature=0.0, max_tokens=chat.max_tokens
                    ),
                )
            )
            for i, chat in enumerate(chats)
        ]
        waiting = [(chat.at_s, i) for i, chat in enumerate(chats)]
        heapq.heapify(waiting)
        texts, first_s = [""] * len(chats), [0.0] * len(chats)
        started = time.perf_counter()
        while waiting or self.engine.seated:
            if not self.engine.seated:
                _sleep_until(started + waiting[0][0])
            while waiting and waiting[0][0] <= time.perf_counter() - started:
                if not self.engine.admit(prepared[waiting[0][1]]):
                    break
                heapq.heappop(waiting)
            for task_id, event in self.engine.step(None).events:
                i = int(task_id)
                if isinstance(event, TextDelta) and not first_s[i]:
                    first_s[i] = time.perf_counter() - started - chats[i].at_s
                elif isinstance(event, Done):
                    texts[i] = self.engine.finish(event.raw).text
        total_s = time.perf_counter() - started
        return Run([[int(said[1:]) for said in text.split()] for text in texts], first_s, total_s)


class Generate:
    """transformers' generate, one chat after another."""

    def __init__(self, folder: Path, *, is_packed: bool = False) -> None:
        self.model = _model(folder, is_packed=is_packed)

    def run(self, chats: Sequence[Chat]) -> Run:
        answers, first_s = [], []
        started = time.perf_counter()
        with torch.inference_mode():
            for chat in chats:
                ids = torch.tensor([list(chat.prompt)])
                output = self.model.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=chat.max_tokens
                )
                answers.append(output[0, ids.shape[1] :].tolist())
                first_s.append(time.perf_counter() - started)
        return Run(answers, first_s, time.perf_counter() - started)


class ContinuousBatching:
    """transformers' continuous batching as it comes, but for the blocks of its cache: by default they take 90 % of the memory."""

    def __init__(
        self, folder: Path, chats: int, *, is_packed: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        logging.getLogger("transformers").setLevel(logging.ERROR)
        self._model = _model(folder, is_packed=is_packed, dtype=dtype)
        self._blocks = 4 * chats  # of 256 tokens: twice what every chat needs at once

    @contextmanager
    def started(self) -> Iterator["ContinuousBatching"]:
        """Its thread runs until the end."""
        generation = GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=16)
        batching = ContinuousBatchingConfig(num_blocks=self._blocks)
        with self._model.continuous_batching_context_manager(
            generation_config=generation, continuous_batching_config=batching
        ) as self._manager:
            yield self

    def run(self, chats: Sequence[Chat]) -> Run:
        numbers = {f"{next(_names)}": i for i in range(len(chats))}
        arrivals = sorted(numbers, key=lambda name: chats[numbers[name]].at_s)
        answers: list[Sequence[int]] = [[] for _ in chats]
        first_s = [0.0] * len(chats)
        started = time.perf_counter()
        ended = 0
        while ended < len(chats):
            while arrivals and chats[numbers[arrivals[0]]].at_s <= time.perf_counter() - started:
                chat = chats[numbers[arrivals[0]]]
                self._manager.add_request(
                    list(chat.prompt),
                    request_id=arrivals.pop(0),
                    max_new_tokens=chat.max_tokens,
                    record_timestamps=True,
                )
            until = started + chats[numbers[arrivals[0]]].at_s - time.perf_counter() if arrivals else 60.0
            try:
                result = self._manager.output_router.output_queue.get(timeout=max(until, 1e-4))
            except queue.Empty:
                continue
            assert result.error is None, result.error
            i = numbers[result.request_id]
            answers[i] = list(result.generated_tokens)
            first_s[i] = result.timestamps[0] - started - chats[i].at_s
            ended += 1
        return Run(answers, first_s, time.perf_counter() - started)


_names = itertools.count()


def _model(folder: Path, *, is_packed: bool, dtype: torch.dtype = torch.float32) -> Any:  # a model of transformers
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
    if is_packed:
        pack(model, PACKED_ROWS, PACKED_SPARE_BYTES)
    return model


PACKED_ROWS = (1, 8, 32, 200, 512)  # as of ours
PACKED_SPARE_BYTES = 512 << 20


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))
