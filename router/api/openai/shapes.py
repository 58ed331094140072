"""The answers of the dialect, for the OpenAPI document: the routes build them as plain JSON.

Source: https://platform.openai.com/docs/api-reference.
"""

from typing import Literal

from pydantic import BaseModel, Field


class ModelShape(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str = Field(description="the place that has it")


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelShape]


class TextUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Said(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class TokenShape(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class ChosenShape(TokenShape):
    top_logprobs: list[TokenShape]


class ChatLogprobs(BaseModel):
    """The model's own, before penalties, temperature and format."""

    content: list[ChosenShape]
    refusal: None


class ChatChoice(BaseModel):
    index: int
    message: Said
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(BaseModel):
    """With `stream`: server-sent chunks of it, ended by [DONE]."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TextUsage


class CompletionLogprobs(BaseModel):
    """The model's own, before penalties, temperature and format."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(BaseModel):
    """With `stream`: server-sent chunks of it, ended by [DONE]."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TextUsage


class EmbeddingShape(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or with base64 little-endian float32")


class ReadUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"]
    data: list[EmbeddingShape]
    model: str
    usage: ReadUsage


class ImageShape(BaseModel):
    url: str | None = None
    b64_json: str | None = None


class ImageList(BaseModel):
    created: int
    data: list[ImageShape]


class TimedSegment(BaseModel):
    id: int
    start: float = Field(description="seconds")
    end: float
    text: str


class TimedWord(BaseModel):
    word: str
    start: float
    end: float


class Transcription(BaseModel):
    """`text` alone, and with verbose_json the rest; with text, srt or vtt, plain text; with `stream`, server-sent events."""

    text: str
    task: str | None = None
    language: str | None = None
    duration: float | None = None
    segments: list[TimedSegment] | None = None
    words: list[TimedWord] | None = None
