"""The bytes of assets in each place that they can be: a folder, a bucket behind a real S3 interface, memory."""

import hashlib
import resource
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest

from protos.errors import InputInvalid, Internal, InvalidRequest, StorageUnavailable
from router.assets.files import Arrived, Files

DATA = bytes(range(256)) * 5000


@pytest.fixture(params=["folder", "bucket", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    urls: dict[str, Any] = {"folder": lambda: str(tmp_path / "assets"), "memory": lambda: "memory://assets"}
    url = request.getfixturevalue("bucket") if request.param == "bucket" else urls[request.param]()
    files = Files(url, tmp_path / "arriving")
    files.open()
    return files


def arrived(files: Files, *chunks: bytes) -> Arrived:
    arriving = files.arriving()
    for chunk in chunks:
        arriving.write(chunk)
    return arriving.complete()


def test_bytes_come_back_whole_and_in_part(files: Files) -> None:
    file = arrived(files, DATA[:1000], DATA[1000:])
    assert (file.size_bytes, file.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert file.head == DATA[:8192]
    files.keep(file)
    assert not file.path.exists()
    assert files.read(file.sha256) == DATA
    assert files.read(file.sha256, 10, 5000) == DATA[10:5000]
    assert files.read(file.sha256, len(DATA) - 5, len(DATA)) == DATA[-5:]
    assert file.sha256 in set(files.kept(file.sha256[:2]))


def test_the_same_bytes_are_kept_once(files: Files) -> None:
    for _ in range(2):
        file = arrived(files, b"twice")
        files.keep(file)
        assert not file.path.exists()
    assert list(files.kept(file.sha256[:2])).count(file.sha256) == 1


def test_what_is_removed_is_gone_and_can_be_removed_again(files: Files) -> None:
    file = arrived(files, b"soon gone")
    files.keep(file)
    for _ in range(2):
        files.remove(file.sha256)
    assert file.sha256 not in set(files.kept(file.sha256[:2]))
    with pytest.raises(Internal, match="is gone"):
        files.read(file.sha256)


def test_what_was_discarded_or_left_arriving_is_dropped(files: Files) -> None:
    arriving = files.arriving()
    arriving.write(b"half")
    arriving.discard()
    left = arrived(files, b"left")
    files.open()
    assert not left.path.exists()


def test_the_file_is_in_the_bucket_by_its_hash(bucket: str, tmp_path: Path) -> None:
    files = Files(bucket, tmp_path / "arriving")
    files.open()
    file = arrived(files, b"in the bucket")
    files.keep(file)
    client = boto3.client("s3")
    body = client.get_object(Bucket="fabric", Key=f"assets/{file.sha256[:2]}/{file.sha256}")["Body"]
    assert body.read() == b"in the bucket"
    body.close()
    client.close()


def test_a_place_that_cannot_be_is_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="FABRIC_ASSETS_URL"):
        Files("nonsense://x", tmp_path)


def test_a_bucket_that_is_not_there_is_told_at_the_start(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="FABRIC_ASSETS_URL"):
        Files(bucket.replace("fabric", "nowhere"), tmp_path / "arriving").open()


def test_a_disk_that_takes_no_more_has_a_name(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "assets"), tmp_path / "arriving")
    files.open()
    arriving = files.arriving()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write over the limit is an error then, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageUnavailable, match="make room there"):
            arriving.write(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
        arriving.discard()
    assert list((tmp_path / "assets" / "arriving").iterdir()) == []


def test_a_bucket_that_goes_away_has_a_name(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="lost")
    files = Files(bucket.replace("fabric", "lost"), tmp_path / "arriving")
    files.open()
    file = arrived(files, b"lost on the way")
    client.delete_bucket(Bucket="lost")
    with pytest.raises(StorageUnavailable, match="lost"):
        files.keep(file)
    client.close()
