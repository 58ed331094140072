"""The vocabulary of a task: what is asked, what happens, what comes back. Plain frozen data, shared by all packages.

Not about wire formats (codec) nor about durable jobs (router/jobs.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NewType, TypeAlias

TaskId = NewType("TaskId", str)
ModelId = NewType("ModelId", str)
OrganizationId = NewType("OrganizationId", str)
NodeId = NewType("NodeId", str)
ProviderId = NewType("ProviderId", str)

DEFAULT_ORGANIZATION = OrganizationId("00000000-0000-0000-0000-000000000010")  # Source: the official client's default
DEFAULT_PRIORITY = 50
DEFAULT_MAX_TOKENS = 512  # tokens; never the whole context, so that one forgotten limit does not hold a seat for long


class Modality(StrEnum):
    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    EMBEDDING = "embedding"


class Tier(StrEnum):
    BASIC = "basic"  # local, free
    PREMIUM = "premium"  # remote, paid


Privacy: TypeAlias = Literal["any", "local_only"]


# ---- what is asked ----


@dataclass(frozen=True, slots=True)
class Message:
    role: str  # system, user, assistant
    content: str


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What every answer has to be, token by token."""

    kind: Literal["json_object", "json_schema", "regex", "grammar"]
    definition: str = ""  # the schema as JSON text, the pattern, the grammar (Lark, or GBNF); of json_object nothing
    name: str = ""  # of a schema, for a vendor that wants one
    is_strict: bool = False  # what a vendor is told of a schema; a model on this box keeps to all of it anyway


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """Text to continue, or a conversation to answer: exactly one of `prompt` and `messages`."""

    prompt: str | None = None
    messages: Sequence[Message] = ()
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    min_p: float = 0.0
    max_tokens: int | None = None  # None: DEFAULT_MAX_TOKENS, or what is left of the context
    stop: Sequence[str] = ()
    seed: int | None = None  # None: a fresh one
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0  # taken from a token's logit for each time that the answer has it
    presence_penalty: float = 0.0  # once, when the answer has it
    logprobs: int | None = None  # of each token, and of so many that were likeliest in its place; None: of none
    n: int = 1  # answers to the one prompt
    response_format: ResponseFormat | None = None  # None: any text


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of a file and what they claim to be."""

    data: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


ImageScheduler: TypeAlias = Literal["ddim", "euler", "euler_ancestral", "dpmpp_2m", "flow_euler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    prompt: str
    negative_prompt: str = ""
    image: Blob | None = None  # present: image to image
    width: int | None = None  # pixels; None: the model's
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    strength: float | None = None  # 0 to 1
    seed: int | None = None
    n: int = 1
    scheduler: ImageScheduler | None = None  # None: the model's
    preview_every: int | None = None  # steps between two previews of a picture; None: none are made


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioRequest:
    audio: Blob
    language: str = ""  # ISO 639-1; "": detected
    task: Literal["transcribe", "translate"] = "transcribe"
    word_timestamps: bool = False
    prompt: str = ""
    vad: bool = True
    temperature: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    texts: Sequence[str]
    dimensions: int | None = None  # None: the model's
    normalize: bool = True
    prompt_name: str = ""


TaskRequest: TypeAlias = TextRequest | ImageRequest | AudioRequest | EmbeddingRequest

MODALITY_OF: dict[type, Modality] = {
    TextRequest: Modality.TEXT,
    ImageRequest: Modality.IMAGE,
    AudioRequest: Modality.AUDIO,
    EmbeddingRequest: Modality.EMBEDDING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work for a node or a vendor."""

    id: TaskId
    request: TaskRequest
    model: ModelId | None = None  # None: the default of the modality
    organization_id: OrganizationId = DEFAULT_ORGANIZATION
    priority: int = DEFAULT_PRIORITY  # 0 to 100, higher first
    timeout_s: float | None = None
    tier: Tier | None = None  # None: any; for a router, a node has but one
    privacy: Privacy = "any"  # local_only never leaves the router's machine
    is_forwarded: bool = False  # by another router: it goes to this one's own places only, or two could pass it around

    @property
    def modality(self) -> Modality:
        return MODALITY_OF[type(self.request)]


# ---- what comes back ----


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token and the natural logarithm of the probability that the model gave it, before any penalty, temperature,
    filter or format."""

    data: bytes  # of its text: a token may end within a character
    logprob: float


@dataclass(frozen=True, slots=True)
class ChosenToken:
    """A token of the answer, and those that were likeliest in its place, likeliest first."""

    token: TokenLogprob
    top: Sequence[TokenLogprob] = ()


@dataclass(frozen=True, slots=True)
class TextResult:
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: Sequence[ChosenToken] = ()  # of the text's tokens, where they were asked for; the end token is none
    more: Sequence["TextResult"] = ()  # the other answers, where more than one was asked for

    @property
    def answers(self) -> Sequence["TextResult"]:
        """All of them, this one first."""
        return (self, *self.more)


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    data: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class ImageResult:
    images: Sequence[GeneratedImage]


@dataclass(frozen=True, slots=True)
class Word:
    start_s: float
    end_s: float
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    start_s: float
    end_s: float
    text: str
    words: Sequence[Word] = ()


@dataclass(frozen=True, slots=True)
class AudioResult:
    text: str
    language: str
    duration_s: float
    segments: Sequence[Segment]


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """`vectors`: little-endian float32, rows one after another, shape (texts, dimensions)."""

    dimensions: int
    vectors: bytes = field(repr=False)


TaskResult: TypeAlias = TextResult | ImageResult | AudioResult | EmbeddingResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of input_tokens, those that a vendor had read before and prices lower
    reasoning_tokens: int = 0  # of output_tokens, those that were thought and not said
    audio_seconds: float = 0.0
    images: int = 0
    device_seconds: float = 0.0  # its share of the device time of the steps it sat in


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds from the arrival at the node, on its monotonic clock."""

    queued_s: float = 0.0  # until its seat
    load_s: float = 0.0  # of queued_s, spent loading its model
    first_output_s: float = 0.0
    total_s: float = 0.0


# ---- what happens meanwhile ----


@dataclass(frozen=True, slots=True)
class Queued:
    position: int  # tasks ahead of it in its waiting room
    eta_s: float | None = None  # how long it should take from its arrival on, as Timings.total_s; None: nobody can say


@dataclass(frozen=True, slots=True)
class Started:
    node_id: NodeId
    model: ModelId


@dataclass(frozen=True, slots=True)
class Progress:
    fraction: float  # 0 to 1
    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str  # to append to what came before in its answer
    answer: int = 0  # which of those that were asked for
    logprobs: Sequence[ChosenToken] = ()  # of the tokens that are new, where they were asked for


@dataclass(frozen=True, slots=True)
class SegmentDelta:
    segment: Segment


@dataclass(frozen=True, slots=True)
class Preview:
    index: int  # of the picture within the request
    data: bytes = field(repr=False)
    content_type: str


@dataclass(frozen=True, slots=True)
class Finished:
    result: TaskResult
    usage: Usage
    timings: Timings


# In this order: Queued, Started, then any of Progress, TextDelta, SegmentDelta, Preview, then Finished as the last.
# A task that fails or is cancelled ends by a raised FabricError instead of Finished.
TaskEvent: TypeAlias = Queued | Started | Progress | TextDelta | SegmentDelta | Preview | Finished


# ---- what a place can say of itself ----


class ModelState(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model as its node lists it."""

    id: ModelId
    modality: Modality
    state: ModelState
    is_default: bool
    memory_bytes: int  # measured peak; before the first load the bytes expected from its files
    error: str = ""  # why the state is FAILED
    context_tokens: int = 0  # 0 where the notion does not apply
    engine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a task would cost if it were sent now, and when it would end."""

    model: ModelId
    usage: Usage  # what was assumed; output_tokens is the upper bound
    queue_s: float
    load_s: float
    run_s: float
    total_s: float
    fits_memory: bool
    would_evict: Sequence[ModelId] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    kind: Literal["cpu", "cuda"]
    name: str
    total_bytes: int  # capacity that the node may use
    used_bytes: int
    reserved_bytes: int
    foreign_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model's queue and progress; rates are over the last 10 s. `units` are its engine's: tokens, rows, windows."""

    model: Model
    waiting: int = 0
    waiting_limit: int = 0
    running: int = 0
    last_batch: int = 0
    max_batch: int = 0
    steps_per_s: float = 0.0
    units_per_s: float = 0.0
    device_seconds: float = 0.0
    last_step_age_s: float = 0.0
    oldest_wait_s: float = 0.0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    node_id: NodeId
    device: Device
    models: Sequence[ModelStatus]
    ready: bool
    reason: str  # why not ready; "" when ready
    draining: bool
    uptime_s: float
    version: str
