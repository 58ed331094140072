"""/v1/images/generations. Source: https://platform.openai.com/docs/api-reference/images."""

import base64
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urljoin

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from protos.errors import InputInvalid, Internal
from protos.types import ImageRequest, ImageResult
from router.api.context import JSON_BODY
from router.api.openai.calls import Caller, WithCaller, now
from router.api.openai.dialect import ERRORS, Body, DialectRoute
from router.api.openai.shapes import ImageList

routes = APIRouter(prefix="/v1/images", tags=["openai"], route_class=DialectRoute, responses=ERRORS)

_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")


class ImageBody(Body):
    NEUTRAL: ClassVar[Mapping[str, object]] = {
        "quality": "auto",
        "style": "natural",
        "background": "auto",
        "moderation": "auto",
        "output_format": "png",
        "stream": False,
        "partial_images": 0,
    }

    prompt: str = Field(min_length=1)
    model: str | None = None
    n: int | None = Field(default=None, ge=1, le=16)
    size: str | None = Field(default=None, description="WIDTHxHEIGHT, or auto: the model's")
    response_format: Literal["url", "b64_json"] = "url"
    negative_prompt: str = Field(default="", description="not OpenAI's, as are the four below")
    steps: int | None = Field(default=None, ge=1, le=500)
    guidance_scale: float | None = Field(default=None, ge=0, le=100)
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)

    def request(self) -> ImageRequest:
        """Raises InputInvalid."""
        width, height = _sides(self.size)
        return ImageRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            width=width,
            height=height,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            n=self.n or 1,
        )


def _sides(size: str | None) -> tuple[int | None, int | None]:
    if size in (None, "auto"):
        return None, None
    found = _SIZE.fullmatch(size or "")
    if found is None:
        raise InputInvalid.at(
            "size", f"is {(size or '')[:40]!r}: give WIDTHxHEIGHT in pixels, such as 512x512, or auto"
        )
    return int(found[1]), int(found[2])


@routes.post("/generations", dependencies=[JSON_BODY], response_model=ImageList)
async def generate(body: ImageBody, caller: WithCaller) -> Response:
    """Draws pictures: kept as assets behind signed URLs, or, with b64_json, in the answer alone."""
    body.check_rest()
    outcome = await caller.outcome(body.request(), body.model)
    result = outcome.finished.result
    if not isinstance(result, ImageResult):
        raise Internal(f"pictures were asked for and came back as {type(result).__name__}: this is a bug")
    if body.response_format == "b64_json":
        shown = [{"b64_json": base64.b64encode(image.data).decode()} for image in result.images]
    else:
        shown = await _kept(caller, result)
    return JSONResponse({"created": now(), "data": shown})


async def _kept(caller: Caller, result: ImageResult) -> list[dict[str, Any]]:  # Any: JSON
    output = await caller.parts.attachments.output(caller.organization_id, result)
    return [{"url": urljoin(str(caller.http.base_url), image["url"])} for image in output["images"]]
