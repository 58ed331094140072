"""/v1/completions, the older form: a prompt to continue. Source: https://platform.openai.com/docs/api-reference/completions."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from protos.types import ChosenToken, TextDelta
from router.api.context import JSON_BODY, WithOrganization, WithParts, WithPrincipal
from router.api.openai.calls import Caller, identifier, now
from router.api.openai.choices import Json, answered, answers_of, streamed
from router.api.openai.dialect import ERRORS, DialectRoute
from router.api.openai.sampling import TextBody
from router.api.openai.shapes import Completion
from router.inputs import MAX_LOGPROBS
from router.tasks import text_of_token

routes = APIRouter(prefix="/v1", tags=["openai"], route_class=DialectRoute, responses=ERRORS)


MAX_PROMPTS: Final = 16  # of one call


class CompletionBody(TextBody):
    prompt: str | Annotated[list[str], Field(max_length=MAX_PROMPTS)] = Field(
        min_length=1, description="a text, or a few"
    )
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @property
    def logprobs_wanted(self) -> int | None:
        return self.logprobs


@routes.post("/completions", dependencies=[JSON_BODY], response_model=Completion)
async def complete(
    request: Request,
    body: CompletionBody,
    parts: WithParts,
    organization_id: WithOrganization,
    principal: WithPrincipal,
) -> Response:
    """Continues a prompt; with `stream`, as it is made."""
    caller = Caller(request, parts, organization_id, principal.key_id)
    body.check_rest()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    requests = [body.request(prompt, ()) for prompt in prompts]
    head: Json = {"id": identifier("cmpl"), "created": now(), "object": "text_completion"}
    if body.stream:
        return await streamed(caller, body, requests, head, _Pieces())
    outcomes = await caller.outcomes(requests, body.model)
    choices = [
        _choice(index, answer.text, _logprobs(answer.logprobs, 0), answer.finish_reason)
        for index, answer in enumerate(answers_of(outcomes))
    ]
    head["model"] = outcomes[0].model
    return answered(head, choices, [outcome.finished.usage for outcome in outcomes])


def _choice(index: int, text: str, logprobs: Json | None, finish_reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


class _Pieces:
    """The choice objects of a stream. Where a token begins counts from the beginning of its answer."""

    def __init__(self) -> None:
        self._told: dict[int, int] = {}  # characters of each choice's tokens so far

    def __call__(self, choice: int, told: TextDelta | None, finish_reason: str | None) -> Json:
        if told is None:
            return _choice(choice, "", None, finish_reason)
        start = self._told.get(choice, 0)
        self._told[choice] = start + sum(len(text_of_token(each.token)) for each in told.logprobs)
        return _choice(choice, told.text, _logprobs(told.logprobs, start), finish_reason)


def _logprobs(tokens: Sequence[ChosenToken], start: int) -> Json | None:
    """start: characters before the first. Source: https://platform.openai.com/docs/api-reference/completions/object."""
    if not tokens:
        return None
    texts = [text_of_token(each.token) for each in tokens]
    offsets = [start + sum(map(len, texts[:place])) for place in range(len(texts))]
    return {
        "tokens": texts,
        "token_logprobs": [each.token.logprob for each in tokens],
        "top_logprobs": [{text_of_token(other): other.logprob for other in each.top} for each in tokens],
        "text_offset": offsets,
    }
