"""/v1/completions, the older form: a prompt to continue. Source: https://platform.openai.com/docs/api-reference/completions."""

from fastapi import APIRouter, Response
from pydantic import Field

from router.api.context import JSON_BODY
from router.api.openai.calls import WithCaller, identifier, now
from router.api.openai.choices import Json, answered, streamed, text_of
from router.api.openai.dialect import ERRORS, DialectRoute
from router.api.openai.sampling import MAX_CHOICES, TextBody
from router.api.openai.shapes import Completion

routes = APIRouter(prefix="/v1", tags=["openai"], route_class=DialectRoute, responses=ERRORS)


class CompletionBody(TextBody):
    prompt: str | list[str] = Field(min_length=1, description="a text, or a few")


@routes.post("/completions", dependencies=[JSON_BODY], response_model=Completion)
async def complete(body: CompletionBody, caller: WithCaller) -> Response:
    """Continues a prompt; with `stream`, as it is made."""
    body.check_rest()
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt[:MAX_CHOICES]
    requests = [request for prompt in prompts for request in body.requests(prompt, ())]
    head: Json = {"id": identifier("cmpl"), "created": now(), "object": "text_completion"}
    if body.stream:
        return await streamed(caller, body, requests, head, _piece)
    outcomes = await caller.outcomes(requests, body.model)
    results = [text_of(outcome.finished) for outcome in outcomes]
    choices = [_piece(index, result.text, result.finish_reason) for index, result in enumerate(results)]
    head["model"] = outcomes[0].model
    return answered(head, choices, [outcome.finished.usage for outcome in outcomes])


def _piece(choice: int, text: str | None, finish_reason: str | None) -> Json:
    return {"index": choice, "text": text or "", "logprobs": None, "finish_reason": finish_reason}
