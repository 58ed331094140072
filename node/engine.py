"""The one abstraction for all modalities: an engine does device work in bounded steps.

Not about who steps it when (scheduler/) nor about what it costs in memory (memory/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from protos.errors import FabricError
from protos.types import (
    EmbeddingRequest,
    ImageRequest,
    Modality,
    ModelId,
    Preview,
    Progress,
    SegmentDelta,
    Task,
    TaskId,
    TaskRequest,
    TaskResult,
    TextDelta,
    TextRequest,
    Usage,
)

LIGHT_CHARACTERS: Final = 512  # of all texts of a request that is prepared on the event loop
_TEXT_CHARACTERS: Final = 16  # as many as one more text is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A task ready for the device. `payload` belongs to the engine that prepared it."""

    task: Task
    usage: Usage  # assumed: input as counted, output at its upper bound; device_seconds of what the engine expects
    payload: Any = field(repr=False)  # the engine's own type; nobody else looks inside

    @property
    def expected_s(self) -> float:
        """Device seconds it is expected to take when it runs alone; 0 while nothing has been learned."""
        return self.usage.device_seconds


@dataclass(frozen=True, slots=True)
class Done:
    """A task has left its seat with its work complete. `raw` goes to `finish`."""

    raw: Any = field(repr=False)  # the engine's own type
    usage: Usage  # without device_seconds: the loop charges them


@dataclass(frozen=True, slots=True)
class Failed:
    """A task has left its seat because of its own fault; its batch mates go on."""

    error: FabricError


StepEvent: TypeAlias = Progress | TextDelta | SegmentDelta | Preview | Done | Failed


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    work: Mapping[
        TaskId, int
    ]  # units (tokens, denoising rows, windows) that each task got; their sum is the step's size
    events: Sequence[tuple[TaskId, StepEvent]]  # in order


def is_light(request: TaskRequest) -> bool:
    """To prepare it takes less than to wake a thread of the CPU pool for it: at the bound 0.5 ms with the models that ship,
    where the way to the pool and back takes 0.5 to 0.9 ms on two virtual cores."""
    match request:
        case TextRequest(response_format=None, logprobs=None):  # those may have to be compiled, or read the vocabulary
            texts = [request.prompt or "", *(message.content for message in request.messages)]
        case EmbeddingRequest():
            texts = list(request.texts)
        case ImageRequest(image=None):
            texts = [request.prompt, request.negative_prompt]
        case _:
            return False
    return sum(_TEXT_CHARACTERS + len(text) for text in texts) <= LIGHT_CHARACTERS


class Engine(Protocol):
    """One loaded model.

    Threads: `prepare` and `finish` run on the CPU pool, many at a time; a light request is prepared on the event loop.
    Everything else is called never two at a time, on the loop thread, which owns the device; `warm_up` before that and
    `close` after it on the loader's, so that the steps of others do not wait for them; and `step` on a thread of its own
    where the engine computes beside the loop. `prepare` and `finish` share nothing mutable with the rest.

    A task's life: prepare, admit (until it returns True), any number of steps, then exactly one of a Done or Failed
    event from `step`, or `cancel`; after Done, finish. An engine never reports a task that it does not seat.
    """

    @property
    def model(self) -> ModelId: ...

    @property
    def modality(self) -> Modality: ...

    @property
    def seats(self) -> int:
        """The most tasks it can hold at once."""
        ...

    @property
    def seated(self) -> int:
        """Tasks that hold a seat now. The engine has work exactly when this is not 0."""
        ...

    @property
    def context_tokens(self) -> int:
        """The longest input plus output, in tokens; 0 where the notion does not apply."""
        ...

    @property
    def beside_threads(self) -> int:
        """0: `step` computes on the loop thread, which does nothing else meanwhile.

        Above 0: `step` waits for a library that computes in so many threads of its own and cannot be interrupted. It is
        called beside the loop, which steps other engines meanwhile, and charged for its threads. Until it returns nothing
        but `prepare` and `finish` is called.
        """
        ...

    def prepare(self, task: Task) -> Prepared:
        """Validates and converts the request. Pure but for learned costs.

        Raises InputInvalid with the field, its value and the bound when the model cannot serve the request.
        """
        ...

    def admit(self, prepared: Prepared) -> bool:
        """Takes a seat in the running batch, between steps. False, and no change, when there is no room now.

        An empty engine always has room for a task that `prepare` accepted.
        """
        ...

    def step(self, quantum_s: float | None) -> Step:
        """One bounded unit of device work for those who have a seat, rows picked so that it should end within
        `quantum_s` (None: nobody else waits, fill the device). Always makes progress for at least one task.

        Called only when `seated` is not 0. Returns when the results are on the host. Raises what the device raises;
        after a raise the engine still holds the same seats, and cancel works.
        """
        ...

    def cancel(self, task_id: TaskId) -> None:
        """Frees the seat before the next step. Nothing when the task has no seat."""
        ...

    def finish(self, raw: Any) -> TaskResult:  # the engine's own type, from Done
        """The result as the caller gets it: detokenised, encoded. Not called where the engine gave a result already."""
        ...

    def warm_up(self) -> None:
        """Runs the largest step it may ever run, so that the peak memory can be measured and first calls are fast."""
        ...

    def held_bytes(self) -> int:
        """Device bytes that the model holds between steps: weights, pools, workspace."""
        ...

    def close(self) -> None:
        """Releases the device memory. Called once, with no task seated, on a thread that may take its time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One entry of models.toml, read and checked by catalog.py."""

    id: ModelId
    engine: str  # a name in engines/__init__.py
    modality: Modality
    path: str = ""  # absolute; the folder of the model's files; "" for engines that need none
    is_default: bool = False  # serves tasks of its modality that name no model
    dtype: str = "auto"  # auto, float32, bfloat16, float16; auto: float32 on a CPU, the files' own on a GPU
    seats: int = 16  # tasks in one batch
    context_tokens: int | None = None  # None: the model's own
    step_tokens: int = 512  # tokens in one step; prefill is cut into chunks of it
    waiting_limit: int = 256  # tasks; one more is refused with OVERLOADED
    keep_alive_s: float | None = 300.0  # unused for so long, it is unloaded; None: never. Ollama's default is 5 minutes
    preload: bool = False  # loaded at the start, before the node is ready
    pin: bool = False  # never unloaded to make room for another
    weight: float = 1.0  # its share of device time when others want it too
    file_bytes: int = 0  # of everything under path


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """The device that a node owns."""

    kind: str  # cpu, cuda
    index: int = 0  # of the CUDA device
    threads: int = 1  # of a CPU device

    @property
    def torch_name(self) -> str:
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


LoadEngine: TypeAlias = Callable[[ModelSpec, DeviceSpec], Engine]
"""How an engine module makes an engine. Runs on a loader thread. Raises LoadFailed or DoesNotFit."""
