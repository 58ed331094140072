"""/v1/assets: files kept here: upload, list, download, delete, and URLs that need no key.

Not about how they are kept (router/assets/).
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from protos.errors import Cancelled, RangeNotSatisfiable, UnsupportedMediaType
from router.api.context import Parts, WithOrganization, WithParts, WithPrincipal, WithReach, belongs
from router.api.envelope import Success, failure, request_id_of, success
from router.api.job_shapes import iso
from router.assets.asset import Asset, Kind
from router.assets.content import checked_filename
from router.assets.library import Claims
from router.assets.ranges import Part, part_of
from router.principals import ANONYMOUS

routes = APIRouter(prefix="/v1/assets", tags=["assets"])

DEFAULT_TTL_S: Final = 3600
MAX_TTL_S: Final = 7 * 24 * 3600  # a URL that opens a file for everyone is not for ever
_LIST_LIMIT: Final = 200

# What a browser may show by itself. Anything else, HTML and SVG above all, is saved as a file: shown from here, a script
# in it could call this router in the name of whoever looks at it.
_SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain"})
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "the bytes of the file, whatever the Content-Type",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ANY_TYPE: Final = {"*/*": {"schema": {"type": "string", "format": "binary"}}}  # the file's own
_BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the file", "content": _ANY_TYPE},
    206: {"description": "the part of it that Range asks for", "content": _ANY_TYPE},
    304: {"description": "If-None-Match names what is here"},
    416: {"description": "the range lies outside of the file"},
}


class AssetShape(BaseModel):
    id: str
    organization_id: str
    kind: Kind
    content_type: str
    filename: str | None
    size_bytes: int
    sha256: str
    created_at: str
    expires_at: str | None = Field(description="from then on it is not found; null: it stays")

    @classmethod
    def of(cls, asset: Asset) -> "AssetShape":
        return cls(
            id=asset.id,
            organization_id=asset.organization_id,
            kind=asset.kind,
            content_type=asset.content_type,
            filename=asset.filename,
            size_bytes=asset.size_bytes,
            sha256=asset.sha256,
            created_at=iso(asset.created_at),
            expires_at=None if asset.expires_at is None else iso(asset.expires_at),
        )


class SignedUrlBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ttl_seconds: Annotated[int, Field(ge=1, le=MAX_TTL_S, strict=True)] | None = None


class SignedUrlShape(BaseModel):
    url: str = Field(description="opens the file without a key")
    asset_id: str
    expires_at: str
    ttl_seconds: int


@routes.post("", status_code=201, response_model=Success[AssetShape], openapi_extra=_BODY)
async def upload_asset(
    *,
    request: Request,
    parts: WithParts,
    organization_id: WithOrganization,
    filename: str | None = None,
    content_type: Annotated[str | None, Query(description="default: told from the header, the bytes, the name")] = None,
    header: Annotated[str, Header(alias="content-type", include_in_schema=False)] = "",
    content_length: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Keeps the body as a file of the organization, until it is deleted."""
    if header.startswith("multipart/"):
        raise UnsupportedMediaType(
            "the body is a form: send the bytes of the file alone, as curl --data-binary @file does"
        )
    claims = Claims(
        filename=checked_filename(filename),
        content_type=content_type,
        header=header,
        size_bytes=int(content_length) if content_length.isdecimal() else 1,
    )
    asset = await parts.assets.upload(organization_id, _body(request), claims)
    return success(request, AssetShape.of(asset), 201, {"location": f"/v1/assets/{asset.id}"})


@routes.get("", response_model=Success[list[AssetShape]])
async def list_assets(
    request: Request,
    parts: WithParts,
    organization_id: WithOrganization,
    limit: Annotated[int, Query(ge=1, le=_LIST_LIMIT)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """Newest first."""
    found = await parts.assets.listed(organization_id, limit, offset)
    return success(request, [AssetShape.of(asset) for asset in found])


@routes.head("/{asset_id}", responses=_BYTES, response_class=Response)
@routes.get("/{asset_id}", responses=_BYTES, response_class=Response)
async def download_asset(
    *,
    request: Request,
    asset_id: str,
    parts: WithParts,
    reach: WithReach,
    principal: WithPrincipal,
    expires: Annotated[str, Query(description="of a signed URL")] = "",
    signature: Annotated[str, Query(description="of a signed URL")] = "",
    range_: Annotated[str, Header(alias="range")] = "",
    if_range: Annotated[str, Header()] = "",
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """The bytes. A range of them answers 206."""
    if signature or principal is ANONYMOUS:  # what the gate lets through without a key must show a signature here
        parts.links.check(asset_id, expires, signature)
        asset = await parts.assets.get(None, asset_id)
    else:
        asset = await parts.assets.get(reach, asset_id)
    headers = _headers(asset)
    if _names(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    try:
        part = part_of(range_, asset.size_bytes) if not if_range or if_range == headers["etag"] else None
    except RangeNotSatisfiable as error:
        refused = failure(error, request_id_of(request))
        refused.headers["content-range"] = f"bytes */{asset.size_bytes}"
        return refused
    return _answer(request, parts, asset, part, headers)


@routes.delete("/{asset_id}", status_code=204, response_class=Response)
async def delete_asset(request: Request, asset_id: str, parts: WithParts, reach: WithReach) -> Response:
    """Jobs that refer to it and have not run yet will fail."""
    belongs(request, (await parts.assets.get(reach, asset_id)).organization_id)
    await parts.assets.remove(reach, asset_id)
    return Response(status_code=204)


@routes.post("/{asset_id}/signed-url", response_model=Success[SignedUrlShape])
async def sign_url(
    request: Request, asset_id: str, parts: WithParts, reach: WithReach, body: SignedUrlBody | None = None
) -> Response:
    """A URL that opens the file for whoever has it, until it expires."""
    ttl_s = DEFAULT_TTL_S if body is None or body.ttl_seconds is None else body.ttl_seconds
    asset = await parts.assets.get(reach, asset_id)
    expires_at = parts.links.until(asset, ttl_s)
    shape = SignedUrlShape(
        url=parts.links.url(asset.id, expires_at), asset_id=asset.id, expires_at=iso(expires_at), ttl_seconds=ttl_s
    )
    return success(request, shape)


# ---- the bytes on their way ----


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as exc:
        raise Cancelled("the caller closed the connection") from exc


def _headers(asset: Asset) -> dict[str, str]:
    is_shown = asset.content_type in _SHOWN or asset.content_type.startswith(("audio/", "video/"))
    name = asset.filename or asset.id
    return {
        "content-type": asset.content_type,
        "content-disposition": f"{'inline' if is_shown else 'attachment'}; filename*=UTF-8''{quote(name, safe='')}",
        "etag": f'"{asset.sha256}"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",  # kept with its ETag, and asked again: it may be deleted
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def _answer(request: Request, parts: Parts, asset: Asset, part: Part | None, headers: dict[str, str]) -> Response:
    sent = part or Part(0, asset.size_bytes)
    headers["content-length"] = str(sent.end - sent.start)
    if part is not None:
        headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{asset.size_bytes}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(parts.assets.chunks(asset, sent.start, sent.end), status, headers)
