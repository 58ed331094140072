"""/v1/chat/completions. Source: https://platform.openai.com/docs/api-reference/chat."""

from collections.abc import Sequence
from typing import Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator

from protos.errors import InputInvalid
from protos.types import ChosenToken, Message, TextDelta, TextResult
from router.api.context import JSON_BODY, WithOrganization, WithParts, WithPrincipal
from router.api.openai.calls import Caller, identifier, now
from router.api.openai.choices import Json, answered, answers_of, streamed
from router.api.openai.dialect import ERRORS, Body, DialectRoute
from router.api.openai.sampling import TextBody
from router.api.openai.shapes import ChatCompletion
from router.inputs import MAX_LOGPROBS
from router.tasks import logprobs_json

routes = APIRouter(prefix="/v1/chat", tags=["openai"], route_class=DialectRoute, responses=ERRORS)


class Part(Body):
    type: str
    text: str | None = None


class ChatMessage(Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None


class ChatBody(TextBody):
    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _asks_for_them(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs is given without logprobs: send logprobs true beside it")
        return self

    @property
    def logprobs_wanted(self) -> int | None:
        return self.top_logprobs or 0 if self.logprobs else None

    @property
    def tokens_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


@routes.post("/completions", dependencies=[JSON_BODY], response_model=ChatCompletion)
async def complete_chat(
    request: Request, body: ChatBody, parts: WithParts, organization_id: WithOrganization, principal: WithPrincipal
) -> Response:
    """Answers a chat; with `stream`, as it is made."""
    caller = Caller(request, parts, organization_id, principal.key_id)
    body.check_rest()
    requests = [body.request(None, _messages(body.messages))]
    head: Json = {"id": identifier("chatcmpl"), "created": now()}
    if body.stream:
        return await streamed(caller, body, requests, {**head, "object": "chat.completion.chunk"}, _Pieces())
    outcomes = await caller.outcomes(requests, body.model)
    choices = [_choice(index, answer) for index, answer in enumerate(answers_of(outcomes))]
    head |= {"object": "chat.completion", "model": outcomes[0].model}
    return answered(head, choices, [outcome.finished.usage for outcome in outcomes])


def _choice(index: int, answer: TextResult) -> Json:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(answer.logprobs),
        "finish_reason": answer.finish_reason,
    }


def _logprobs(tokens: Sequence[ChosenToken]) -> Json | None:
    return {"content": logprobs_json(tokens), "refusal": None} if tokens else None


class _Pieces:
    """The choice objects of a stream; the first of each says who speaks."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    def __call__(self, choice: int, told: TextDelta | None, finish_reason: str | None) -> Json:
        delta: Json = {} if told is None else {"content": told.text}
        if choice not in self._begun:
            self._begun.add(choice)
            delta = {"role": "assistant", "content": "", **delta}
        logprobs = _logprobs(told.logprobs) if told is not None else None
        return {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _messages(given: Sequence[ChatMessage]) -> list[Message]:
    """Raises InputInvalid for content that is not text."""
    return [
        Message("system" if message.role == "developer" else message.role, _text(index, message.content))
        for index, message in enumerate(given)
    ]


def _text(index: int, content: str | Sequence[Part]) -> str:
    if isinstance(content, str):
        return content
    for number, part in enumerate(content):
        if part.type != "text" or part.text is None:
            raise InputInvalid.at(
                f"messages.{index}.content.{number}", f"is of type {part.type[:40]!r}: chats here are text alone"
            )
    return "".join(part.text or "" for part in content)
