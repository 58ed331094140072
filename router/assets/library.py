"""The assets of all organizations: received, found, read, removed when nobody wants them any more.

Bytes first, then the record: a crash in between leaves a file without a record, which a sweep removes. Not about
jobs (attachments.py), nor how bytes are kept (files.py) or records (router/store/assets.py).
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final
from weakref import WeakValueDictionary

from protos.errors import FabricError, InvalidRequest, PayloadTooLarge
from protos.types import OrganizationId
from router.assets.asset import Asset, AssetId, new_asset_id
from router.assets.content import content_type_of
from router.assets.files import FOLDERS, Arrived, Arriving, Files
from router.store import assets as table
from router.store.base import Records

CHUNK_BYTES: Final = 1 << 20  # that one turn on a thread writes or reads
_HASHES_AT_ONCE: Final = 500  # of files, in one question to the database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetLimits:
    file_bytes: int
    quota_bytes: int  # of one organization
    retention_s: float  # of what came with a job or out of one; 0: until it is deleted
    upload_retention_s: float  # of what was uploaded; 0: until it is deleted
    sweep_s: float = 60.0  # between two looks for what has expired, and for files without a record in one folder of 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the sender of a file says of it."""

    filename: str | None = None
    content_type: str | None = None  # said on purpose: it wins
    header: str = ""  # a Content-Type that the program may have set by itself
    size_bytes: int = 1


class Assets:
    """Opened after the store, closed before it. Lives on one event loop."""

    def __init__(self, records: Records, files: Files, limits: AssetLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._records, self._files, self._clock = records, files, clock
        # Of one file, by its hash: whether it is there and whether a record has it are read and changed together.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._one_sweep = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises InvalidRequest when files cannot be kept."""
        await asyncio.to_thread(self._files.open)
        self._sweeping = asyncio.create_task(self._sweep_forever(), name="assets")

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
            self._sweeping = None

    # ---- in ----

    async def upload(self, organization_id: OrganizationId, chunks: AsyncIterable[bytes], claims: Claims) -> Asset:
        """A file that a caller keeps here, streamed to the disk. Raises PayloadTooLarge, QuotaExceeded, InvalidRequest
        for an empty one, InputInvalid."""
        await self.check_room(organization_id, claims.size_bytes)  # before it is sent in vain
        expires_at = self._after(self.limits.upload_retention_s)
        return await self._receive(organization_id, chunks, claims, expires_at, self.limits.quota_bytes)

    async def attach(self, organization_id: OrganizationId, data: bytes, claims: Claims) -> Asset:
        """A file that came with a job. Raises as `upload`."""
        expires_at = self._after(self.limits.retention_s)
        return await self._receive(organization_id, _whole(data), claims, expires_at, self.limits.quota_bytes)

    async def produce(self, organization_id: OrganizationId, data: bytes, claims: Claims) -> Asset:
        """A file that a model made: kept also beyond the quota, as its making is paid for. Nothing is accepted after it,
        until there is room again."""
        return await self._receive(organization_id, _whole(data), claims, self._after(self.limits.retention_s), None)

    async def check_room(self, organization_id: OrganizationId, size_bytes: int = 1) -> None:
        """Raises QuotaExceeded when so many bytes more are not accepted."""
        quota_bytes = self.limits.quota_bytes
        await self._records.look(
            lambda connection: table.check_room(connection, organization_id, size_bytes, quota_bytes)
        )

    async def _receive(
        self,
        organization_id: OrganizationId,
        chunks: AsyncIterable[bytes],
        claims: Claims,
        expires_at: float | None,
        quota_bytes: int | None,
    ) -> Asset:
        arriving = await asyncio.to_thread(self._files.arriving)
        try:
            arrived = await self._written(arriving, chunks)
            now = self._clock()
            asset = Asset(
                id=new_asset_id(now),
                organization_id=organization_id,
                content_type=content_type_of(claims.content_type, claims.header, arrived.head, claims.filename),
                filename=claims.filename,
                size_bytes=arrived.size_bytes,
                sha256=arrived.sha256,
                created_at=now,
                expires_at=expires_at,
            )
            await self._keep(arrived, asset, quota_bytes)
        finally:
            arriving.discard()
        return asset

    async def _written(self, arriving: Arriving, chunks: AsyncIterable[bytes]) -> Arrived:
        pending = bytearray()
        async for chunk in chunks:
            pending += chunk
            if arriving.size_bytes + len(pending) > self.limits.file_bytes:
                raise PayloadTooLarge(
                    f"the file is over {self.limits.file_bytes} bytes: send less, or raise FABRIC_ASSET_BYTES"
                )
            if len(pending) >= CHUNK_BYTES:
                await asyncio.to_thread(arriving.write, bytes(pending))
                pending.clear()
        if not pending and not arriving.size_bytes:
            raise InvalidRequest("the file is empty: send its bytes as the body")
        await asyncio.to_thread(arriving.write, bytes(pending))
        return await asyncio.to_thread(arriving.complete)

    async def _keep(self, arrived: Arrived, asset: Asset, quota_bytes: int | None) -> None:
        async with self._lock(asset.sha256):
            await asyncio.to_thread(self._files.keep, arrived)
            try:
                await self._records.change(table.add(asset, quota_bytes))
            except FabricError:
                await self._remove_unreferenced(asset.sha256)
                raise

    # ---- out ----

    async def get(self, organization_id: OrganizationId | None, asset_id: str) -> Asset:
        """organization_id: whose it must be; None: anybody's. Raises NotFound, also for another organization's."""
        now = self._clock()
        return await self._records.look(
            lambda connection: table.get(connection, organization_id, AssetId(asset_id), now)
        )

    async def listed(self, organization_id: OrganizationId, limit: int, offset: int) -> Sequence[Asset]:
        now = self._clock()
        return await self._records.look(
            lambda connection: table.listed(connection, organization_id, now, limit, offset)
        )

    async def read(self, asset: Asset) -> bytes:
        """All of it, in memory."""
        return await asyncio.to_thread(self._files.read, asset.sha256)

    async def chunks(self, asset: Asset, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, and without, `end`."""
        for begin in range(start, end, CHUNK_BYTES):
            yield await asyncio.to_thread(self._files.read, asset.sha256, begin, min(begin + CHUNK_BYTES, end))

    # ---- away ----

    async def remove(self, organization_id: OrganizationId | None, asset_id: str) -> None:
        """Raises as `get`."""
        asset = await self._records.change(table.remove(organization_id, AssetId(asset_id)))
        await self._drop(asset.sha256)

    async def sweep(self) -> None:
        """Removes what has expired. One at a time, so that nothing of it is left when this returns."""
        async with self._one_sweep:
            is_more = True
            while is_more:
                gone = await self._records.change(table.remove_expired(self._clock()))
                for sha256 in {asset.sha256 for asset in gone}:
                    await self._drop(sha256)
                is_more = len(gone) == table.EXPIRED_AT_ONCE

    async def remove_orphans(self, folders: Sequence[str] = FOLDERS) -> int:
        """How many files without a record there were: of a process that was killed between the two writes, or that could
        not be removed with their record. A folder at a time: it is never asked for the names of all files at once."""
        return sum([await self._remove_orphans_of(folder) for folder in folders])

    async def _remove_orphans_of(self, folder: str) -> int:
        kept = await asyncio.to_thread(self._files.kept, folder)
        orphans: list[str] = []
        for start in range(0, len(kept), _HASHES_AT_ONCE):
            orphans += await self._unreferenced(kept[start : start + _HASHES_AT_ONCE])
        for sha256 in orphans:
            await self._drop(sha256)
        return len(orphans)

    async def _sweep_forever(self) -> None:
        """All folders at the start, as a killed process may have left files; then one each time, so that the disk or the
        bucket is never busy with it."""
        folders, turns = FOLDERS, cycle(FOLDERS)
        while True:
            try:
                await self.remove_orphans(folders)
                folders = (next(turns),)
                await self.sweep()
            except Exception:  # the disk or the bucket may answer again later
                log.exception("assets could not be swept; the next try is in %g s", self.limits.sweep_s)
            await asyncio.sleep(self.limits.sweep_s)

    async def _drop(self, sha256: str) -> None:
        async with self._lock(sha256):
            await self._remove_unreferenced(sha256)

    async def _remove_unreferenced(self, sha256: str) -> None:
        if await self._unreferenced([sha256]):
            await asyncio.to_thread(self._files.remove, sha256)

    async def _unreferenced(self, hashes: Collection[str]) -> Collection[str]:
        return await self._records.look(lambda connection: table.unreferenced(connection, hashes))

    def _lock(self, sha256: str) -> asyncio.Lock:
        return self._locks.setdefault(sha256, asyncio.Lock())

    def _after(self, seconds: float) -> float | None:
        return self._clock() + seconds if seconds else None


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
