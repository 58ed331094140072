"""An engine without a model or torch: plays a script made from the request, deterministically, for any modality.

For tests, benchmarks of all that is around an engine, and trying the API. What it should do wrong is said to its
constructor, never in a prompt.
"""

import hashlib
import json
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, assert_never

from node.engine import DeviceSpec, Done, Failed, ModelSpec, Prepared, Step, StepEvent
from protos.errors import InputInvalid
from protos.types import (
    DEFAULT_MAX_TOKENS,
    AudioRequest,
    AudioResult,
    ChosenToken,
    EmbeddingRequest,
    EmbeddingResult,
    GeneratedImage,
    ImageRequest,
    ImageResult,
    Modality,
    ModelId,
    Progress,
    Segment,
    SegmentDelta,
    Task,
    TaskId,
    TaskResult,
    TextDelta,
    TextRequest,
    TextResult,
    TokenLogprob,
    Usage,
)

DIMENSIONS: Final = 8  # of its vectors: one SHA-256 gives eight numbers of 32 bits
CONTEXT_TOKENS: Final = 256  # words
SECOND_BYTES: Final = 32_000  # of 16-bit mono at 16 kHz
_LIKELY: Final = -0.6931471805599453  # the logarithm of a half
STEP_S: Final = 0.001  # of a loaded fake: long enough to see it on the device's account


@dataclass(frozen=True, slots=True)
class Script:
    """What will happen to a task: one piece per step, then the result."""

    words: str  # of the request, where the faults are looked for
    pieces: Sequence[StepEvent | None]  # None: a step without an event; at least one
    result: TaskResult
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong: a word in the request that fails its task, one that makes its step throw, and a closed gate."""

    fails_on: str = ""
    throws_on: str = ""
    error: Exception = field(default_factory=lambda: RuntimeError("the fake device broke as it was told to"))
    gate: threading.Event | None = None  # every step waits until it is set
    hangs_at: Path | None = None  # a file: the step that finds it takes it away and never comes back


def load(spec: ModelSpec, device: DeviceSpec) -> "FakeEngine":
    """As `fake` it steps on the loop thread, as `fake-beside` beside it. A file `hang` under its path: see Faults."""
    beside_threads = device.threads if spec.engine == "fake-beside" else 0
    faults = Faults(hangs_at=Path(spec.path) / "hang") if spec.path else None
    return FakeEngine(spec, step_s=STEP_S, work=_rest, faults=faults, beside_threads=beside_threads)


class FakeEngine:
    """See node/engine.py. Each step serves everyone seated, one piece each, and takes `step_s` of device time."""

    context_tokens = CONTEXT_TOKENS

    def __init__(
        self,
        spec: ModelSpec,
        *,
        step_s: float = 0.0,
        work: Callable[[float], object] = lambda _: None,
        faults: Faults | None = None,
        held_bytes: int = 1 << 20,
        beside_threads: int = 0,
    ) -> None:
        """work: spends its argument, in seconds, as the device would; the default spends nothing."""
        self.model: ModelId = spec.id
        self.modality: Modality = spec.modality
        self.seats: int = spec.seats
        self.beside_threads = beside_threads
        self.is_closed = False
        self._step_s, self._work, self._faults, self._held_bytes = step_s, work, faults or Faults(), held_bytes
        self._seated: dict[TaskId, tuple[Script, int]] = {}  # and how many pieces were played

    @property
    def seated(self) -> int:
        return len(self._seated)

    def prepare(self, task: Task) -> Prepared:
        script = script_of(task)
        usage = Usage(
            input_tokens=script.usage.input_tokens,
            output_tokens=script.usage.output_tokens,
            audio_seconds=script.usage.audio_seconds,
            images=script.usage.images,
            device_seconds=self._step_s * len(script.pieces),
        )
        return Prepared(task=task, usage=usage, payload=script)

    def admit(self, prepared: Prepared) -> bool:
        if len(self._seated) >= self.seats:
            return False
        self._seated[prepared.task.id] = (prepared.payload, 0)
        return True

    def step(self, quantum_s: float | None) -> Step:  # noqa: ARG002 - its steps are of one length
        if self._faults.gate is not None:
            self._faults.gate.wait()
        if self._faults.hangs_at is not None and self._faults.hangs_at.exists():
            self._faults.hangs_at.unlink()
            threading.Event().wait()
        self._work(self._step_s)
        if any(_has(script, self._faults.throws_on) for script, _ in self._seated.values()):
            raise self._faults.error
        served = list(self._seated)
        return Step(dict.fromkeys(served, 1), [(id_, event) for id_ in served for event in self._play(id_)])

    def cancel(self, task_id: TaskId) -> None:
        self._seated.pop(task_id, None)

    def finish(self, raw: TaskResult) -> TaskResult:
        return raw

    def warm_up(self) -> None:
        self._work(self._step_s)

    def held_bytes(self) -> int:
        return self._held_bytes

    def close(self) -> None:
        self.is_closed = True

    def _play(self, task_id: TaskId) -> list[StepEvent]:
        script, played = self._seated[task_id]
        if _has(script, self._faults.fails_on):
            del self._seated[task_id]
            return [Failed(InputInvalid.at("prompt", f"has the word {self._faults.fails_on!r}, told to fail"))]
        piece = script.pieces[played]
        events = [piece] if piece is not None else []
        if played + 1 < len(script.pieces):
            self._seated[task_id] = (script, played + 1)
            return events
        del self._seated[task_id]
        return [*events, Done(script.result, script.usage)]


def _rest(seconds: float) -> None:
    threading.Event().wait(seconds)


def _has(script: Script, word: str) -> bool:
    return bool(word) and word in script.words.split()


# ---- the scripts ----


def script_of(task: Task) -> Script:
    """What happens to the task. Raises InputInvalid as a real engine would."""
    request = task.request
    match request:
        case TextRequest():
            return _text(request)
        case EmbeddingRequest():
            return _embedding(request)
        case ImageRequest():
            return _image(request)
        case AudioRequest():
            return _audio(request)
        case _:
            assert_never(request)


def _text(request: TextRequest) -> Script:
    """Says the words of the prompt, or of the last message, one a step; as JSON when that is asked for. All answers are
    the same, and every token as likely as not."""
    prompt = request.messages[-1].content if request.messages else request.prompt or ""
    words = prompt.split()
    if not words:
        raise InputInvalid.at("prompt", "is empty: give at least one word")
    if request.n < 1:
        raise InputInvalid.at("n", f"is {request.n}: give at least 1")
    if request.response_format is not None and request.response_format.kind != "json_object":
        raise InputInvalid.at(
            "response_format", f"is a {request.response_format.kind}: a fake keeps to json_object only"
        )
    if len(words) > CONTEXT_TOKENS:
        raise InputInvalid.at("prompt", f"has {len(words)} tokens, the model takes at most {CONTEXT_TOKENS}")
    if request.temperature < 0:
        raise InputInvalid.at("temperature", f"is {request.temperature}: give 0 (greedy) or more")
    limit = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    if request.max_tokens is not None and not 1 <= limit <= CONTEXT_TOKENS:
        raise InputInvalid.at("max_tokens", f"is {limit}: give 1 to {CONTEXT_TOKENS}")
    answer = words if request.response_format is None else json.dumps({"said": prompt}).split(" ")
    said = [word if i == 0 else f" {word}" for i, word in enumerate(answer[:limit])]
    tokens = [] if request.logprobs is None else [_scored(word, request.logprobs) for word in said]
    pieces = [
        TextDelta(word, number, tuple(tokens[i : i + 1])) for i, word in enumerate(said) for number in range(request.n)
    ]
    one = TextResult("".join(said), "stop" if len(said) == len(answer) else "length", tuple(tokens))
    result = replace(one, more=(one,) * (request.n - 1))
    return Script(prompt, pieces, result, Usage(input_tokens=len(words), output_tokens=len(said) * request.n))


def _scored(word: str, top: int) -> ChosenToken:
    """The word itself is the likeliest of those in its place."""
    token = TokenLogprob(word.encode(), _LIKELY)
    others = (TokenLogprob(f"{word}{number}".encode(), _LIKELY - number) for number in range(1, top))
    return ChosenToken(token, (token, *others)[:top])


def _embedding(request: EmbeddingRequest) -> Script:
    """A unit vector from the hash of each text, all in one step."""
    if not request.texts:
        raise InputInvalid.at("texts", "is empty: give at least one text")
    for index, text in enumerate(request.texts):
        if not text.strip():
            raise InputInvalid.at(f"texts[{index}]", "is empty: there is nothing to embed")
    dimensions = request.dimensions or DIMENSIONS
    if dimensions > DIMENSIONS:
        raise InputInvalid.at("dimensions", f"is {dimensions}: the model has {DIMENSIONS}")
    vectors = b"".join(_unit_vector(text, dimensions) for text in request.texts)
    tokens = sum(len(text.split()) for text in request.texts)
    return Script(" ".join(request.texts), [None], EmbeddingResult(dimensions, vectors), Usage(input_tokens=tokens))


def _unit_vector(text: str, dimensions: int) -> bytes:
    numbers = struct.unpack("<8i", hashlib.sha256(text.encode()).digest())[:dimensions]
    length = sum(number * number for number in numbers) ** 0.5
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))


def _image(request: ImageRequest) -> Script:
    """`n` pictures of one colour, from the hash of prompt and seed, with progress at each of `steps` steps."""
    steps = 4 if request.steps is None else request.steps
    if steps < 1:
        raise InputInvalid.at("steps", f"is {steps}: give at least 1")
    width, height, seed = request.width or 64, request.height or 64, request.seed or 0
    pictures = [_picture(request.prompt, width, height, seed + index) for index in range(request.n)]
    pieces = [Progress((i + 1) / steps, i + 1, steps) for i in range(steps)]
    return Script(request.prompt, pieces, ImageResult(pictures), Usage(images=request.n))


def _picture(prompt: str, width: int, height: int, seed: int) -> GeneratedImage:
    colour = hashlib.sha256(f"{seed} {prompt}".encode()).digest()[:3]
    return GeneratedImage(png(colour, width, height), "image/png", width, height, seed)


def png(colour: bytes, width: int, height: int) -> bytes:
    """A picture of one colour (3 bytes, RGB). Source: PNG specification, third edition, sections 5 and 11."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + colour * width) * height
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _audio(request: AudioRequest) -> Script:
    """One segment per second of 16-bit mono at 16 kHz, one a step."""
    if not request.audio.data:
        raise InputInvalid.at("audio", "is empty: send the bytes of an audio file")
    duration_s = len(request.audio.data) / SECOND_BYTES
    seconds = -(-len(request.audio.data) // SECOND_BYTES)
    segments = [Segment(float(i), min(i + 1.0, duration_s), f"second {i + 1}") for i in range(seconds)]
    result = AudioResult(". ".join(s.text for s in segments), request.language or "en", duration_s, segments)
    return Script(request.prompt, [SegmentDelta(s) for s in segments], result, Usage(audio_seconds=duration_s))
