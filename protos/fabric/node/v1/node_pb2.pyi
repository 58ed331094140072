from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]
    MODALITY_AUDIO: _ClassVar[Modality]
    MODALITY_EMBEDDING: _ClassVar[Modality]

class ImageScheduler(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_SCHEDULER_UNSPECIFIED: _ClassVar[ImageScheduler]
    IMAGE_SCHEDULER_DDIM: _ClassVar[ImageScheduler]
    IMAGE_SCHEDULER_EULER: _ClassVar[ImageScheduler]
    IMAGE_SCHEDULER_EULER_ANCESTRAL: _ClassVar[ImageScheduler]
    IMAGE_SCHEDULER_DPMPP_2M: _ClassVar[ImageScheduler]
    IMAGE_SCHEDULER_FLOW_EULER: _ClassVar[ImageScheduler]

class AudioTask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIO_TASK_UNSPECIFIED: _ClassVar[AudioTask]
    AUDIO_TASK_TRANSCRIBE: _ClassVar[AudioTask]
    AUDIO_TASK_TRANSLATE: _ClassVar[AudioTask]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_UNLOADED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
MODALITY_UNSPECIFIED: Modality
MODALITY_TEXT: Modality
MODALITY_IMAGE: Modality
MODALITY_AUDIO: Modality
MODALITY_EMBEDDING: Modality
IMAGE_SCHEDULER_UNSPECIFIED: ImageScheduler
IMAGE_SCHEDULER_DDIM: ImageScheduler
IMAGE_SCHEDULER_EULER: ImageScheduler
IMAGE_SCHEDULER_EULER_ANCESTRAL: ImageScheduler
IMAGE_SCHEDULER_DPMPP_2M: ImageScheduler
IMAGE_SCHEDULER_FLOW_EULER: ImageScheduler
AUDIO_TASK_UNSPECIFIED: AudioTask
AUDIO_TASK_TRANSCRIBE: AudioTask
AUDIO_TASK_TRANSLATE: AudioTask
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_UNLOADED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState

class Calls(_message.Message):
    __slots__ = ("begin", "leave")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    begin: _containers.RepeatedCompositeFieldContainer[Call]
    leave: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, begin: _Optional[_Iterable[_Union[Call, _Mapping]]] = ..., leave: _Optional[_Iterable[int]] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("number", "task")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    number: int
    task: Task
    def __init__(self, number: _Optional[int] = ..., task: _Optional[_Union[Task, _Mapping]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "model", "organization_id", "priority", "timeout_s", "tier", "privacy", "forwarded", "text", "image", "audio", "embedding")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ORGANIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    organization_id: str
    priority: int
    timeout_s: float
    tier: str
    privacy: str
    forwarded: bool
    text: TextRequest
    image: ImageRequest
    audio: AudioRequest
    embedding: EmbeddingRequest
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., organization_id: _Optional[str] = ..., priority: _Optional[int] = ..., timeout_s: _Optional[float] = ..., tier: _Optional[str] = ..., privacy: _Optional[str] = ..., forwarded: _Optional[bool] = ..., text: _Optional[_Union[TextRequest, _Mapping]] = ..., image: _Optional[_Union[ImageRequest, _Mapping]] = ..., audio: _Optional[_Union[AudioRequest, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingRequest, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class TextRequest(_message.Message):
    __slots__ = ("prompt", "messages", "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty", "logprobs", "n", "response_format")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    messages: Messages
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logprobs: int
    n: int
    response_format: ResponseFormat
    def __init__(self, prompt: _Optional[str] = ..., messages: _Optional[_Union[Messages, _Mapping]] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., logprobs: _Optional[int] = ..., n: _Optional[int] = ..., response_format: _Optional[_Union[ResponseFormat, _Mapping]] = ...) -> None: ...

class ResponseFormat(_message.Message):
    __slots__ = ("kind", "definition", "name", "strict")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    definition: str
    name: str
    strict: bool
    def __init__(self, kind: _Optional[str] = ..., definition: _Optional[str] = ..., name: _Optional[str] = ..., strict: _Optional[bool] = ...) -> None: ...

class Messages(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, items: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class Blob(_message.Message):
    __slots__ = ("content_type", "data", "blob_id")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    data: bytes
    blob_id: str
    def __init__(self, content_type: _Optional[str] = ..., data: _Optional[bytes] = ..., blob_id: _Optional[str] = ...) -> None: ...

class ImageRequest(_message.Message):
    __slots__ = ("prompt", "negative_prompt", "image", "width", "height", "steps", "guidance_scale", "strength", "seed", "n", "scheduler", "preview_every")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    negative_prompt: str
    image: Blob
    width: int
    height: int
    steps: int
    guidance_scale: float
    strength: float
    seed: int
    n: int
    scheduler: ImageScheduler
    preview_every: int
    def __init__(self, prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., image: _Optional[_Union[Blob, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., strength: _Optional[float] = ..., seed: _Optional[int] = ..., n: _Optional[int] = ..., scheduler: _Optional[_Union[ImageScheduler, str]] = ..., preview_every: _Optional[int] = ...) -> None: ...

class AudioRequest(_message.Message):
    __slots__ = ("audio", "language", "task", "word_timestamps", "prompt", "vad", "temperature")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    WORD_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    VAD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    audio: Blob
    language: str
    task: AudioTask
    word_timestamps: bool
    prompt: str
    vad: bool
    temperature: float
    def __init__(self, audio: _Optional[_Union[Blob, _Mapping]] = ..., language: _Optional[str] = ..., task: _Optional[_Union[AudioTask, str]] = ..., word_timestamps: _Optional[bool] = ..., prompt: _Optional[str] = ..., vad: _Optional[bool] = ..., temperature: _Optional[float] = ...) -> None: ...

class EmbeddingRequest(_message.Message):
    __slots__ = ("texts", "dimensions", "normalize", "prompt_name")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    dimensions: int
    normalize: bool
    prompt_name: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., dimensions: _Optional[int] = ..., normalize: _Optional[bool] = ..., prompt_name: _Optional[str] = ...) -> None: ...

class UploadChunk(_message.Message):
    __slots__ = ("blob_id", "data")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    blob_id: str
    data: bytes
    def __init__(self, blob_id: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("blob_id", "size_bytes")
    BLOB_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    blob_id: str
    size_bytes: int
    def __init__(self, blob_id: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Told(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[CallTold]
    def __init__(self, calls: _Optional[_Iterable[_Union[CallTold, _Mapping]]] = ...) -> None: ...

class CallTold(_message.Message):
    __slots__ = ("number", "events", "ended", "error")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    number: int
    events: _containers.RepeatedCompositeFieldContainer[TaskEvent]
    ended: bool
    error: bytes
    def __init__(self, number: _Optional[int] = ..., events: _Optional[_Iterable[_Union[TaskEvent, _Mapping]]] = ..., ended: _Optional[bool] = ..., error: _Optional[bytes] = ...) -> None: ...

class TaskEvent(_message.Message):
    __slots__ = ("task_id", "queued", "started", "progress", "output", "blob", "finished")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    queued: Queued
    started: Started
    progress: Progress
    output: Output
    blob: BlobChunk
    finished: Finished
    def __init__(self, task_id: _Optional[str] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., blob: _Optional[_Union[BlobChunk, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position", "eta_s")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    position: int
    eta_s: float
    def __init__(self, position: _Optional[int] = ..., eta_s: _Optional[float] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("node_id", "model")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    model: str
    def __init__(self, node_id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("fraction", "step", "steps")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    step: int
    steps: int
    def __init__(self, fraction: _Optional[float] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("text", "segment", "preview", "answer", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: str
    segment: Segment
    preview: Preview
    answer: int
    logprobs: _containers.RepeatedCompositeFieldContainer[ChosenToken]
    def __init__(self, text: _Optional[str] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., answer: _Optional[int] = ..., logprobs: _Optional[_Iterable[_Union[ChosenToken, _Mapping]]] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("data", "logprob")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    logprob: float
    def __init__(self, data: _Optional[bytes] = ..., logprob: _Optional[float] = ...) -> None: ...

class ChosenToken(_message.Message):
    __slots__ = ("token", "top")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    token: TokenLogprob
    top: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, token: _Optional[_Union[TokenLogprob, _Mapping]] = ..., top: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("index", "data", "content_type")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    index: int
    data: bytes
    content_type: str
    def __init__(self, index: _Optional[int] = ..., data: _Optional[bytes] = ..., content_type: _Optional[str] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("text", "image", "audio", "embedding", "usage", "timings")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    text: TextResult
    image: ImageResult
    audio: AudioResult
    embedding: EmbeddingResult
    usage: Usage
    timings: Timings
    def __init__(self, text: _Optional[_Union[TextResult, _Mapping]] = ..., image: _Optional[_Union[ImageResult, _Mapping]] = ..., audio: _Optional[_Union[AudioResult, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingResult, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class TextResult(_message.Message):
    __slots__ = ("text", "finish_reason", "logprobs", "more")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish_reason: str
    logprobs: _containers.RepeatedCompositeFieldContainer[ChosenToken]
    more: _containers.RepeatedCompositeFieldContainer[TextResult]
    def __init__(self, text: _Optional[str] = ..., finish_reason: _Optional[str] = ..., logprobs: _Optional[_Iterable[_Union[ChosenToken, _Mapping]]] = ..., more: _Optional[_Iterable[_Union[TextResult, _Mapping]]] = ...) -> None: ...

class ImageResult(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[GeneratedImage]
    def __init__(self, images: _Optional[_Iterable[_Union[GeneratedImage, _Mapping]]] = ...) -> None: ...

class GeneratedImage(_message.Message):
    __slots__ = ("blob_name", "content_type", "width", "height", "seed")
    BLOB_NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    blob_name: str
    content_type: str
    width: int
    height: int
    seed: int
    def __init__(self, blob_name: _Optional[str] = ..., content_type: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class AudioResult(_message.Message):
    __slots__ = ("text", "language", "duration_s", "segments")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    language: str
    duration_s: float
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, text: _Optional[str] = ..., language: _Optional[str] = ..., duration_s: _Optional[float] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("start_s", "end_s", "text", "words")
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    start_s: float
    end_s: float
    text: str
    words: _containers.RepeatedCompositeFieldContainer[Word]
    def __init__(self, start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., text: _Optional[str] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("start_s", "end_s", "text", "probability")
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    start_s: float
    end_s: float
    text: str
    probability: float
    def __init__(self, start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., text: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class EmbeddingResult(_message.Message):
    __slots__ = ("dimensions", "blob_name")
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    BLOB_NAME_FIELD_NUMBER: _ClassVar[int]
    dimensions: int
    blob_name: str
    def __init__(self, dimensions: _Optional[int] = ..., blob_name: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "audio_seconds", "images", "device_seconds", "cached_tokens", "reasoning_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    audio_seconds: float
    images: int
    device_seconds: float
    cached_tokens: int
    reasoning_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., audio_seconds: _Optional[float] = ..., images: _Optional[int] = ..., device_seconds: _Optional[float] = ..., cached_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queued_s", "load_s", "first_output_s", "total_s")
    QUEUED_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_OUTPUT_S_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    queued_s: float
    load_s: float
    first_output_s: float
    total_s: float
    def __init__(self, queued_s: _Optional[float] = ..., load_s: _Optional[float] = ..., first_output_s: _Optional[float] = ..., total_s: _Optional[float] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EstimateReply(_message.Message):
    __slots__ = ("model", "usage", "queue_s", "load_s", "run_s", "total_s", "fits_memory", "would_evict")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    RUN_S_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    FITS_MEMORY_FIELD_NUMBER: _ClassVar[int]
    WOULD_EVICT_FIELD_NUMBER: _ClassVar[int]
    model: str
    usage: Usage
    queue_s: float
    load_s: float
    run_s: float
    total_s: float
    fits_memory: bool
    would_evict: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., queue_s: _Optional[float] = ..., load_s: _Optional[float] = ..., run_s: _Optional[float] = ..., total_s: _Optional[float] = ..., fits_memory: _Optional[bool] = ..., would_evict: _Optional[_Iterable[str]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "modality", "state", "is_default", "memory_bytes", "error", "context_tokens", "engine")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    id: str
    modality: Modality
    state: ModelState
    is_default: bool
    memory_bytes: int
    error: str
    context_tokens: int
    engine: str
    def __init__(self, id: _Optional[str] = ..., modality: _Optional[_Union[Modality, str]] = ..., state: _Optional[_Union[ModelState, str]] = ..., is_default: _Optional[bool] = ..., memory_bytes: _Optional[int] = ..., error: _Optional[str] = ..., context_tokens: _Optional[int] = ..., engine: _Optional[str] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("interval_s",)
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    interval_s: float
    def __init__(self, interval_s: _Optional[float] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("node_id", "device", "models", "ready", "reason", "draining", "uptime_s", "version")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    device: Device
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    ready: bool
    reason: str
    draining: bool
    uptime_s: float
    version: str
    def __init__(self, node_id: _Optional[str] = ..., device: _Optional[_Union[Device, _Mapping]] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., ready: _Optional[bool] = ..., reason: _Optional[str] = ..., draining: _Optional[bool] = ..., uptime_s: _Optional[float] = ..., version: _Optional[str] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("kind", "name", "total_bytes", "used_bytes", "reserved_bytes", "foreign_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    foreign_bytes: int
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., total_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., reserved_bytes: _Optional[int] = ..., foreign_bytes: _Optional[int] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("model", "waiting", "waiting_limit", "running", "last_batch", "max_batch", "steps_per_s", "units_per_s", "device_seconds", "last_step_age_s", "oldest_wait_s", "succeeded", "failed", "cancelled")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    WAITING_LIMIT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    UNITS_PER_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_STEP_AGE_S_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    model: Model
    waiting: int
    waiting_limit: int
    running: int
    last_batch: int
    max_batch: int
    steps_per_s: float
    units_per_s: float
    device_seconds: float
    last_step_age_s: float
    oldest_wait_s: float
    succeeded: int
    failed: int
    cancelled: int
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., waiting: _Optional[int] = ..., waiting_limit: _Optional[int] = ..., running: _Optional[int] = ..., last_batch: _Optional[int] = ..., max_batch: _Optional[int] = ..., steps_per_s: _Optional[float] = ..., units_per_s: _Optional[float] = ..., device_seconds: _Optional[float] = ..., last_step_age_s: _Optional[float] = ..., oldest_wait_s: _Optional[float] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("timeout_s",)
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    timeout_s: float
    def __init__(self, timeout_s: _Optional[float] = ...) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: int
    def __init__(self, cancelled: _Optional[int] = ...) -> None: ...
