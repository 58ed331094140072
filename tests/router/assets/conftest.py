"""An S3 server on this machine, with a bucket."""

from collections.abc import Iterator

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place for assets in it, of this test alone: what it leaves goes with its bucket."""
    for name, value in (
        ("AWS_ENDPOINT_URL", s3),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="fabric")
    yield "s3://fabric/assets"
    for each in client.list_objects_v2(Bucket="fabric").get("Contents", []):
        client.delete_object(Bucket="fabric", Key=each["Key"])
    client.delete_bucket(Bucket="fabric")
    client.close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
