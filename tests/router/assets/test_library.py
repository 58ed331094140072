"""Assets through the store and a folder: what expires, what is left by a crash, what a quota holds back."""

import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attached import LIMITS, assets_in
from scripted import ORGANIZATION, ManualClock

from protos.errors import InvalidRequest, NotFound, PayloadTooLarge, QuotaExceeded
from protos.types import OrganizationId
from router.assets.library import Assets, Claims
from router.store.sql import SqlStore

OTHER = OrganizationId("org-2")
ROOT = Path(__file__).parents[3]


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


@dataclass
class Rig:
    assets: Assets
    store: SqlStore
    clock: ManualClock
    folder: Path

    def files(self) -> list[Path]:
        """All that lies on the disk for assets, arriving files too."""
        return sorted(path for path in (self.folder / "assets").rglob("*") if path.is_file())

    async def upload(self, data: bytes, organization_id: OrganizationId = ORGANIZATION) -> str:
        return (await self.assets.upload(organization_id, chunks(data), Claims())).id


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with asyncio.timeout(60):
        store, clock = SqlStore(f"sqlite:///{tmp_path}/jobs.db", lambda _: None), ManualClock()
        await store.open()
        assets = assets_in(tmp_path, store, clock)
        await assets.open()
        yield Rig(assets, store, clock, tmp_path)
        await assets.close()
        await store.close()


async def test_the_same_bytes_are_kept_once_and_go_with_the_last_asset(rig: Rig) -> None:
    ids = await asyncio.gather(*(rig.upload(b"same") for _ in range(8)), rig.upload(b"same", OTHER))
    assert len(set(ids)) == 9
    assert len(rig.files()) == 1
    await asyncio.gather(*(rig.assets.remove(ORGANIZATION, each) for each in ids[:8]))
    assert len(rig.files()) == 1
    assert await rig.assets.read(await rig.assets.get(OTHER, ids[8])) == b"same"
    await rig.assets.remove(None, ids[8])
    assert rig.files() == []


async def test_bytes_that_come_and_go_at_once_are_there_for_whoever_keeps_them(rig: Rig) -> None:
    async def come_and_go(stays: bool) -> str:
        asset_id = await rig.upload(b"same")
        if not stays:
            await rig.assets.remove(ORGANIZATION, asset_id)
        return asset_id

    ids = await asyncio.gather(*(come_and_go(index % 7 == 0) for index in range(40)))
    for asset_id in ids[::7]:
        assert await rig.assets.read(await rig.assets.get(ORGANIZATION, asset_id)) == b"same"
    assert len(rig.files()) == 1


async def test_what_came_with_a_job_expires_and_an_upload_stays(rig: Rig) -> None:
    attached = await rig.assets.attach(ORGANIZATION, b"attached", Claims())
    produced = await rig.assets.produce(ORGANIZATION, b"produced", Claims())
    uploaded = await rig.upload(b"uploaded")
    rig.clock.now += LIMITS.retention_s
    for asset in (attached, produced):  # also before it is swept
        with pytest.raises(NotFound, match=asset.id):
            await rig.assets.get(ORGANIZATION, asset.id)
    assert [asset.id for asset in await rig.assets.listed(ORGANIZATION, 10, 0)] == [uploaded]
    assert len(rig.files()) == 3
    await rig.assets.sweep()
    assert len(rig.files()) == 1
    assert await rig.assets.read(await rig.assets.get(ORGANIZATION, uploaded)) == b"uploaded"


async def test_a_sweep_removes_all_that_has_expired_however_many(rig: Rig) -> None:
    for start in range(0, 450, 50):
        await asyncio.gather(
            *(rig.assets.attach(ORGANIZATION, str(each).encode(), Claims()) for each in range(start, start + 50))
        )
    assert len(rig.files()) == 450
    rig.clock.now += LIMITS.retention_s
    await rig.assets.sweep()
    assert rig.files() == []


async def test_a_quota_counts_what_is_there_now(rig: Rig) -> None:
    big = LIMITS.file_bytes
    ids = [await rig.upload(os.urandom(8) + bytes(big - 8)) for _ in range(LIMITS.quota_bytes // big)]
    with pytest.raises(QuotaExceeded, match="FABRIC_ASSET_QUOTA_BYTES"):
        await rig.upload(b"x")
    with pytest.raises(QuotaExceeded):
        await rig.assets.attach(ORGANIZATION, b"x", Claims())
    await rig.upload(b"x", OTHER)
    made = await rig.assets.produce(ORGANIZATION, b"made", Claims())  # its making is paid for
    await rig.assets.remove(ORGANIZATION, ids[0])
    await rig.upload(b"x")
    assert await rig.assets.read(made) == b"made"


async def test_two_at_once_do_not_pass_a_quota_together(rig: Rig) -> None:
    uploads = [rig.upload(bytes([index]) * LIMITS.file_bytes) for index in range(8)]
    results = await asyncio.gather(*uploads, return_exceptions=True)
    kept = [each for each in results if isinstance(each, str)]
    assert len(kept) == LIMITS.quota_bytes // LIMITS.file_bytes
    assert all(isinstance(each, str | QuotaExceeded) for each in results)
    assert len(rig.files()) == len(kept)


async def test_what_is_refused_leaves_nothing_behind(rig: Rig) -> None:
    with pytest.raises(InvalidRequest, match="is empty"):
        await rig.assets.upload(ORGANIZATION, chunks(), Claims())
    with pytest.raises(PayloadTooLarge, match="FABRIC_ASSET_BYTES"):
        await rig.assets.upload(ORGANIZATION, chunks(bytes(LIMITS.file_bytes), b"x"), Claims())

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await rig.assets.upload(ORGANIZATION, broken(), Claims())
    assert rig.files() == []
    assert await rig.assets.listed(ORGANIZATION, 10, 0) == []


async def test_what_a_killed_process_left_is_removed_at_the_next_start(rig: Rig) -> None:
    kept = await rig.assets.get(ORGANIZATION, await rig.upload(b"kept"))
    orphan = await rig.assets.get(ORGANIZATION, await rig.upload(b"killed between the file and its record"))
    half = rig.folder / "assets" / "arriving" / "half"
    foreign = rig.folder / "assets" / "readme.txt"
    orphan_path = next(path for path in rig.files() if path.name == orphan.sha256)
    orphan_bytes = orphan_path.read_bytes()
    await rig.assets.remove(ORGANIZATION, orphan.id)
    await rig.assets.close()
    for path, data in ((orphan_path, orphan_bytes), (half, b"half"), (foreign, b"not ours")):
        path.write_bytes(data)

    assets = assets_in(rig.folder, rig.store, rig.clock)
    await assets.open()
    assert not half.exists()
    assert await assets.remove_orphans() <= 1  # unless the sweep of the start was faster
    assert not orphan_path.exists()
    assert foreign.exists()
    assert await assets.read(kept) == b"kept"
    await assets.close()


async def test_a_file_without_a_record_is_removed_while_the_router_runs(tmp_path: Path, rig: Rig) -> None:
    assets = assets_in(tmp_path / "often", rig.store, rig.clock, replace(LIMITS, sweep_s=0.001))
    await assets.open()
    digest = hashlib.sha256(b"its record went, and the disk would not let it go").hexdigest()
    left = tmp_path / "often" / "assets" / digest[:2] / digest
    kept = await assets.get(ORGANIZATION, (await assets.upload(ORGANIZATION, chunks(b"kept"), Claims())).id)
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"its record went, and the disk would not let it go")
    async with asyncio.timeout(60):
        while left.exists():  # noqa: ASYNC110 - the sweep tells nobody
            await asyncio.sleep(0.01)
    assert await assets.read(kept) == b"kept"
    await assets.close()


async def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, rig: Rig) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InvalidRequest, match="FABRIC_ASSETS_URL"):
        await assets_in(tmp_path / "file", rig.store).open()


async def test_without_a_retention_nothing_expires(tmp_path: Path, rig: Rig) -> None:
    assets = assets_in(tmp_path, rig.store, rig.clock, replace(LIMITS, retention_s=0.0, upload_retention_s=60.0))
    assert (await assets.attach(ORGANIZATION, b"a", Claims())).expires_at is None
    uploaded = await assets.upload(ORGANIZATION, chunks(b"b"), Claims())
    assert uploaded.expires_at == rig.clock.now + 60


KEEPER = """
import asyncio, sys
from pathlib import Path
from attached import assets_in
from router.assets.library import Claims
from router.store.sql import SqlStore

async def run(folder):
    store = SqlStore(f"sqlite:///{folder}/jobs.db", lambda _: None)
    await store.open()
    assets = assets_in(folder, store)
    await assets.open()
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await assets.attach("org-1", b"the file before its record", Claims())

asyncio.run(run(Path(sys.argv[1])))
"""


@pytest.mark.rounds(1)
async def test_a_kill_between_the_file_and_its_record_leaves_nothing_for_long(tmp_path: Path) -> None:
    """The other process has its file in place and waits for the database, which is held here, when it is killed."""
    keeper = tmp_path / "keeper.py"
    keeper.write_text(KEEPER)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"}
    digest = hashlib.sha256(b"the file before its record").hexdigest()
    path = tmp_path / "assets" / digest[:2] / digest
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(keeper), str(tmp_path)], env=environment, **pipes) as process:  # type: ignore[call-overload]  # of two pipes
        assert await asyncio.to_thread(process.stdout.readline) == b"open\n"
        with sqlite3.connect(tmp_path / "jobs.db", isolation_level=None) as holder:
            holder.execute("BEGIN IMMEDIATE")
            process.stdin.write(b"\n")
            process.stdin.flush()
            async with asyncio.timeout(60):
                while not path.exists():  # noqa: ASYNC110 - another process: there is nothing else to wait on
                    await asyncio.sleep(0.01)
            process.kill()
            process.wait()
            holder.execute("ROLLBACK")
        holder.close()
    assert path.read_bytes() == b"the file before its record"
    async with asyncio.timeout(60):
        store = SqlStore(f"sqlite:///{tmp_path}/jobs.db", lambda _: None)
        await store.open()
        assets = assets_in(tmp_path, store)
        assert await assets.listed(ORGANIZATION, 10, 0) == []
        await assets.open()
        assert await assets.remove_orphans() <= 1  # unless the sweep of the start was faster
        assert not path.exists()
        await assets.close()
        await store.close()


async def test_a_large_file_is_never_whole_in_memory(tmp_path: Path, rig: Rig) -> None:
    chunk, count = os.urandom(256 * 1024), 256

    async def large() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(chunk)

    assets = assets_in(tmp_path, rig.store, rig.clock, replace(LIMITS, file_bytes=1 << 30, quota_bytes=1 << 30))
    tracemalloc.start()
    try:
        asset = await assets.upload(ORGANIZATION, large(), Claims())
        digest = hashlib.sha256()
        async for part in assets.chunks(asset, 0, asset.size_bytes):
            digest.update(part)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asset.size_bytes == count * len(chunk)
    assert digest.hexdigest() == asset.sha256
    assert peak_bytes < asset.size_bytes / 8
