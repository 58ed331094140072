"""Files in and out of requests: base64 that comes with a job becomes an asset, a reference becomes bytes when the job is
sent, and a picture that a model made becomes an asset with a URL.

Not about what an input may hold (router/inputs.py).
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, assert_never

from protos.errors import NotFound
from protos.types import Blob, EmbeddingResult, GeneratedImage, ImageResult, Modality, OrganizationId, TaskResult
from router.assets.asset import Asset
from router.assets.content import content_type_of
from router.assets.library import Assets, Claims
from router.assets.links import Links
from router.assets.memory import MemoryBudget
from router.inputs import Inline, Remote, Stored
from router.jobs import Job, JobRequest, Json
from router.outbound import Outbound
from router.tasks import Attached, attached, elsewhere, embeddings_elsewhere, image_output, output_of, referring

LARGE_BYTES: Final = 256 * 1024  # of embeddings as JSON: a page of jobs has up to 100 outputs
_JSON_BYTES_PER_BYTE: Final = 5  # some 20 characters to a float32


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Of the files of inputs."""

    fetch_bytes: int  # of one behind a URL
    fetch_timeout_s: float
    memory_bytes: int  # of those that are in memory for jobs that run


class Attachments:
    """Lives on one event loop; has nothing to open or close of its own."""

    def __init__(self, assets: Assets, links: Links, outbound: Outbound, limits: FileLimits) -> None:
        self._assets, self._links, self._outbound, self._limits = assets, links, outbound, limits
        self._memory = MemoryBudget(limits.memory_bytes)

    # ---- of a durable job ----

    async def keep(self, asked: JobRequest) -> tuple[JobRequest, Asset | None]:
        """The request with references alone, and the asset that was made for it. The request is checked already.
        Raises NotFound for an asset that is not the organization's, QuotaExceeded, TargetRefused."""
        if asked.modality is Modality.IMAGE:  # pictures will come
            await self._assets.check_room(asked.organization_id)
        found = attached(asked.modality, asked.input)
        if found is None:
            return asked, None
        match found.source:
            case Stored(asset_id):
                await self._find(asked.organization_id, asset_id, found.path)
            case Remote(url):
                self._outbound.check(url, found.path)
            case Inline(blob):
                asset = await self._assets.attach(asked.organization_id, blob.data, _claims(blob))
                return replace(asked, input=referring(asked.modality, asked.input, asset.id)), asset
            case _:
                assert_never(found.source)
        return asked, None

    async def drop(self, made: Asset | None) -> None:
        """Undoes `keep`, which has made this: no job came of it."""
        if made is not None:
            with suppress(NotFound):  # somebody was faster
                await self._assets.remove(made.organization_id, made.id)

    @asynccontextmanager
    async def loaded(self, job: Job) -> AsyncGenerator[Blob | None, None]:
        """The bytes of the file of a job while it is sent and run, None when it has none; waits while the files of other
        jobs take all the memory that there is for them. Raises as `of_input`."""
        request = job.request
        found = attached(request.modality, request.input)
        if found is None:
            yield None
            return
        async with self._memory.take(await self._size_bytes(request.organization_id, found)):
            yield await self.of_input(request.organization_id, request.modality, request.input)

    async def _size_bytes(self, organization_id: OrganizationId, found: Attached) -> int:
        match found.source:
            case Inline(blob):
                return len(blob.data)
            case Stored(asset_id):
                return (await self._find(organization_id, asset_id, found.path)).size_bytes
            case Remote():
                return self._limits.fetch_bytes  # nobody knows yet
            case _:
                assert_never(found.source)

    async def of_input(self, organization_id: OrganizationId, modality: Modality, input: Json) -> Blob | None:  # noqa: A002  # the wire's name
        """The bytes of the file of an input, None when it has none. Raises NotFound, TargetRefused, TargetFailed,
        PayloadTooLarge."""
        found = attached(modality, input)
        if found is None:
            return None
        match found.source:
            case Inline(blob):
                return blob
            case Stored(asset_id):
                asset = await self._find(organization_id, asset_id, found.path)
                return Blob(await self._assets.read(asset), asset.content_type)
            case Remote(url):
                return await self._fetched(url, found.path)
            case _:
                assert_never(found.source)

    async def _find(self, organization_id: OrganizationId, asset_id: str, path: str) -> Asset:
        try:
            return await self._assets.get(organization_id, asset_id)
        except NotFound as exc:
            raise NotFound(f"{path}: {exc.message}") from exc

    async def _fetched(self, url: str, path: str) -> Blob:
        fetched = await self._outbound.fetch(
            url, limit_bytes=self._limits.fetch_bytes, timeout_s=self._limits.fetch_timeout_s, field=path
        )
        return Blob(fetched.data, content_type_of(None, fetched.content_type, fetched.data, None))

    # ---- out ----

    async def output(self, organization_id: OrganizationId, result: TaskResult) -> Json:
        """What a job or a direct call shows of its result. Pictures are kept as assets."""
        if not isinstance(result, ImageResult):
            return output_of(result)
        assets = await asyncio.gather(*(self._kept(organization_id, image) for image in result.images))
        return image_output(result, [(asset.id, self._links.lasting(asset)) for asset in assets])

    async def stored_output(self, organization_id: OrganizationId, result: TaskResult) -> Json:
        """The same for a job's row, which stays small: of many embeddings it has the asset that they are in."""
        if not isinstance(result, EmbeddingResult) or len(result.vectors) <= LARGE_BYTES // _JSON_BYTES_PER_BYTE:
            return await self.output(organization_id, result)
        data = await asyncio.to_thread(lambda: json.dumps(output_of(result), separators=(",", ":")).encode())
        claims = Claims(content_type="application/json", filename="embeddings.json")
        asset = await self._assets.produce(organization_id, data, claims)
        return embeddings_elsewhere(result, asset.id, self._links.lasting(asset))

    async def whole(self, job: Job) -> Job:
        """The job with all of its output, when that is still kept."""
        asset_id = elsewhere(job.output)
        if asset_id is None:
            return job
        with suppress(NotFound):
            asset = await self._assets.get(job.request.organization_id, asset_id)
            data = await self._assets.read(asset)
            return replace(job, output=await asyncio.to_thread(json.loads, data))
        return job

    async def _kept(self, organization_id: OrganizationId, image: GeneratedImage) -> Asset:
        return await self._assets.produce(organization_id, image.data, Claims(content_type=image.content_type))


def _claims(blob: Blob) -> Claims:
    return Claims(header=blob.content_type)
