"""Assets over HTTP: what a client uploads and gets back, who may see it, and how jobs take and make files."""

import asyncio
import base64
import hashlib
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fabric_platform
import httpx
import pytest
import pytest_asyncio
from edge import BOUND_S, Edge, answering
from fabric_platform.models import Asset, SignedUrlResponse
from scripted import a_request

from protos.types import Modality, OrganizationId
from router.jobs import new_job
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON

FILES = Path(__file__).parents[2] / "node" / "engines" / "whisper" / "files"
WAV = (FILES / "spoken.wav").read_bytes()
PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f"
    b"\0\5\0\1\xff\xa0h\xb9\x88\0\0\0\0IEND\xaeB`\x82"
)
DIGITS = b"0123456789"
LIMIT = 64 * 1024


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def uploaded(edge: Edge, data: bytes = DIGITS, **params: str) -> Json:
    response = await edge.client.post("/v1/assets", content=data, params=params)
    assert response.status_code == 201, response.text
    asset: Json = response.json()["data"]
    assert response.headers["location"] == f"/v1/assets/{asset['id']}"
    return asset


def png_size(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@pytest_asyncio.fixture(loop_scope="module")
async def small(tmp_path: Path) -> AsyncIterator[Edge]:
    """A router that keeps little, and fetches from this machine."""
    settings = RouterSettings(
        port=0,
        data_dir=tmp_path,
        nodes=(),
        asset_bytes=LIMIT,
        asset_quota_bytes=2 * LIMIT,
        body_bytes=LIMIT // 2,
        max_attempts=1,
        allow_private_targets=("127.0.0.1",),
    )
    async with answering(settings) as edge:
        yield edge


# ---- files ----


async def test_the_official_client_uploads_lists_signs_and_downloads(shared: Edge, tmp_path: Path) -> None:
    (tmp_path / "spoken words.wav").write_bytes(WAV)

    def talk() -> tuple[Json, Json, list[Json], bytes, Json]:
        with fabric_platform.FabricClient(base_url=shared.url) as fabric:
            sound = fabric.assets.upload(tmp_path / "spoken words.wav")
            picture = fabric.assets.upload(PNG, filename="dot.png", content_type="image/png")
            listed = fabric.assets.list(limit=2)
            return sound, picture, listed, fabric.assets.download(sound["id"]), fabric.assets.signed_url(picture["id"])

    sound, picture, listed, data, signed = await asyncio.wait_for(asyncio.to_thread(talk), BOUND_S)
    assert Asset(**sound).size_bytes == len(WAV)
    assert (sound["kind"], sound["content_type"], sound["filename"]) == ("audio", "audio/wav", "spoken words.wav")
    assert (picture["kind"], picture["content_type"]) == ("image", "image/png")
    assert listed == [picture, sound]
    assert data == WAV
    assert SignedUrlResponse(**signed).expires_at is not None
    async with httpx.AsyncClient(base_url=shared.url) as anybody:
        assert (await anybody.get(signed["url"])).content == PNG


@pytest.mark.parametrize(
    ("data", "params", "header", "content_type", "kind"),
    [
        (PNG, {}, "application/json", "image/png", "image"),
        (PNG, {}, "application/x-www-form-urlencoded", "image/png", "image"),
        (PNG, {"content_type": "Image/X-Mine; a=b"}, "image/png", "image/x-mine", "image"),
        (PNG, {}, "image/gif", "image/gif", "image"),
        (b"{}", {"filename": "a.json"}, "application/json", "application/json", "file"),
        (b"hello", {}, "", "application/octet-stream", "file"),
        ((FILES / "spoken.mp3").read_bytes(), {}, "", "audio/mpeg", "audio"),
        ((FILES / "spoken.m4a").read_bytes(), {}, "not a type", "audio/mp4", "audio"),
        ((FILES / "silent-film.mp4").read_bytes(), {}, "", "video/mp4", "video"),
    ],
)
async def test_the_type_is_what_the_sender_means_or_what_the_bytes_show(
    *, edge: Edge, data: bytes, params: Json, header: str, content_type: str, kind: str
) -> None:
    headers = {"content-type": header} if header else {}
    response = await edge.client.post("/v1/assets", content=data, params=params, headers=headers)
    asset = response.json()["data"]
    assert (asset["content_type"], asset["kind"]) == (content_type, kind)
    assert asset["sha256"] == hashlib.sha256(data).hexdigest()
    assert asset["expires_at"] is None


async def test_what_cannot_be_kept_is_refused(edge: Edge) -> None:
    async def refused(data: bytes, **params: str) -> tuple[int, str]:
        return error_of(await edge.client.post("/v1/assets", content=data, params=params))

    assert await refused(b"") == (400, "invalid_request")
    assert await refused(b"x", content_type="nonsense") == (400, "input_validation_failed")
    assert await refused(b"x", filename="a\nb") == (400, "input_validation_failed")
    assert await refused(b"x", filename="a/..") == (400, "input_validation_failed")
    form = await edge.client.post("/v1/assets", files={"file": b"x"})
    assert error_of(form) == (415, "unsupported_media_type")
    assert (await edge.client.get("/v1/assets")).json()["data"] == []


async def test_a_name_loses_its_folders(edge: Edge) -> None:
    assert (await uploaded(edge, filename="../../etc/pass wörd"))["filename"] == "pass wörd"
    assert (await uploaded(edge, filename="C:\\x\\y.txt"))["filename"] == "y.txt"


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, DIGITS, "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-2", 200, DIGITS, None),
        ("bytes=0-1,3-4", 200, DIGITS, None),
        ("lines=0-1", 200, DIGITS, None),
    ],
)
async def test_a_range_of_it_is_answered(
    edge: Edge, asked: str, status: int, content: bytes | None, content_range: str | None
) -> None:
    asset = await uploaded(edge)
    response = await edge.client.get(f"/v1/assets/{asset['id']}", headers={"range": asked})
    assert response.status_code == status
    assert response.headers.get("content-range") == content_range
    if content is None:
        assert error_of(response) == (416, "range_not_satisfiable")
    else:
        assert response.content == content


async def test_a_file_of_many_chunks_comes_back_whole_and_in_part(edge: Edge) -> None:
    data = bytes(range(256)) * 10_240  # 2.5 chunks

    async def body() -> AsyncIterator[bytes]:  # no length is stated
        for start in range(0, len(data), 70_001):
            yield data[start : start + 70_001]

    response = await edge.client.post("/v1/assets", content=body())
    path = f"/v1/assets/{response.json()['data']['id']}"
    assert response.json()["data"]["size_bytes"] == len(data)
    assert (await edge.client.get(path)).content == data
    middle = await edge.client.get(path, headers={"range": "bytes=1000000-2200000"})
    assert middle.content == data[1_000_000:2_200_001]


async def test_a_client_that_has_it_is_not_sent_it_again(edge: Edge) -> None:
    path = f"/v1/assets/{(await uploaded(edge))['id']}"
    head = await edge.client.head(path)
    tag = head.headers["etag"]
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")
    assert head.headers["accept-ranges"] == "bytes"
    for asked in (tag, f'"other", W/{tag}', "*"):
        again = await edge.client.get(path, headers={"if-none-match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await edge.client.get(path, headers={"if-none-match": '"other"'})).status_code == 200
    stale = await edge.client.get(path, headers={"range": "bytes=0-1", "if-range": '"other"'})
    assert (stale.status_code, stale.content) == (200, DIGITS)


async def test_no_browser_runs_what_was_uploaded(edge: Edge) -> None:
    page = await uploaded(edge, b"<script>alert(1)</script>", filename='a".html', content_type="text/html")
    shown = (await edge.client.get(f"/v1/assets/{page['id']}")).headers
    assert shown["content-disposition"] == "attachment; filename*=UTF-8''a%22.html"
    assert shown["x-content-type-options"] == "nosniff"
    assert "sandbox" in shown["content-security-policy"]
    picture = await uploaded(edge, PNG)
    assert (await edge.client.get(f"/v1/assets/{picture['id']}")).headers["content-disposition"].startswith("inline")


async def test_a_list_has_pages_newest_first(edge: Edge) -> None:
    ids = [(await uploaded(edge, str(index).encode()))["id"] for index in range(3)]
    for offset, expected in ((0, ids[:0:-1]), (2, ids[:1])):
        page = (await edge.client.get("/v1/assets", params={"limit": 2, "offset": offset})).json()["data"]
        assert [asset["id"] for asset in page] == expected
    assert error_of(await edge.client.get("/v1/assets", params={"limit": 0})) == (400, "input_validation_failed")


async def test_what_is_deleted_is_gone_and_its_twin_stays(edge: Edge) -> None:
    one, twin = await uploaded(edge, b"the same"), await uploaded(edge, b"the same")
    assert (await edge.client.delete(f"/v1/assets/{one['id']}")).status_code == 204
    assert error_of(await edge.client.get(f"/v1/assets/{one['id']}")) == (404, "not_found")
    assert error_of(await edge.client.delete(f"/v1/assets/{one['id']}")) == (404, "not_found")
    assert (await edge.client.get(f"/v1/assets/{twin['id']}")).content == b"the same"


async def test_a_file_over_the_bound_is_413_and_leaves_nothing(small: Edge, tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(LIMIT // 8)

    assert (await uploaded(small, bytes(LIMIT)))["size_bytes"] == LIMIT  # more than the bound of a JSON body
    for data in (bytes(LIMIT + 1), body()):
        refused = await small.client.post("/v1/assets", content=data)
        assert error_of(refused) == (413, "payload_too_large")
        assert "FABRIC_ASSET_BYTES" in refused.json()["error"]["message"]
    assert list((tmp_path / "assets" / "arriving").iterdir()) == []


async def test_a_caller_that_goes_away_leaves_nothing_behind(small: Edge, tmp_path: Path) -> None:
    arriving = tmp_path / "assets" / "arriving"
    url = httpx.URL(small.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /v1/assets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nonly a part of it")
    await writer.drain()
    async with asyncio.timeout(BOUND_S):
        while not list(arriving.iterdir()):  # noqa: ASYNC110 - what the server does has no event here
            await asyncio.sleep(0.01)
        writer.close()
        while list(arriving.iterdir()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert (await small.client.get("/v1/assets")).json()["data"] == []


async def test_a_quota_is_an_organization_s_own(small: Edge) -> None:
    for _ in range(2):
        await uploaded(small, bytes(LIMIT))
    refused = await small.client.post("/v1/assets", content=b"x")
    assert error_of(refused) == (429, "quota_exceeded")
    other = await small.client.post("/v1/assets", content=b"x", params={"organization_id": "other"})
    assert other.status_code == 201
    mine = (await small.client.get("/v1/assets")).json()["data"]
    await small.client.delete(f"/v1/assets/{mine[0]['id']}")
    assert (await uploaded(small, b"x"))["size_bytes"] == 1


async def test_a_file_over_the_quota_is_refused_before_it_is_sent(small: Edge) -> None:
    await uploaded(small, bytes(LIMIT))
    await uploaded(small, bytes(LIMIT // 2))
    url = httpx.URL(small.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST /v1/assets HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LIMIT}\r\n\r\n".encode())
    async with asyncio.timeout(BOUND_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 429")
    writer.close()


# ---- who may see it ----


async def test_another_organization_s_asset_is_not_found(edge: Edge) -> None:
    asset = await uploaded(edge)
    path, other = f"/v1/assets/{asset['id']}", {"x-organization-id": "somebody-else"}
    for method, url in (("GET", path), ("HEAD", path), ("DELETE", path), ("POST", path + "/signed-url")):
        assert (await edge.client.request(method, url, headers=other)).status_code == 404, method
    assert (await edge.client.get("/v1/assets", headers=other)).json()["data"] == []
    for body in (
        {"modality": "audio", "input": {"asset_id": asset["id"]}},
        {"modality": "image", "input": {"prompt": "a", "image": asset["id"]}},
    ):
        for url in ("/v1/jobs", "/v1/providers/execute", "/v1/providers/estimate"):
            refused = await edge.client.post(url, json=body | {"model": "echo"}, headers=other)
            assert error_of(refused) == (404, "not_found"), url
    assert (await edge.client.get(path)).content == DIGITS


async def test_a_signed_url_needs_no_key_until_it_expires(tmp_path: Path) -> None:
    settings = RouterSettings(
        port=0, data_dir=tmp_path, nodes=(), api_keys=("a-long-enough-key-0001",), public_url="https://fabric.example/"
    )
    async with answering(settings) as edge:
        edge.client.headers["authorization"] = f"Bearer {settings.api_keys[0]}"
        asset = await uploaded(edge)
        signed = (await edge.client.post(f"/v1/assets/{asset['id']}/signed-url", json={"ttl_seconds": 60})).json()[
            "data"
        ]
        other = await uploaded(edge, b"other")
        assert set(signed) == {"url", "asset_id", "expires_at", "ttl_seconds"}
        assert (signed["asset_id"], signed["ttl_seconds"]) == (asset["id"], 60)
        assert signed["url"].startswith("https://fabric.example/v1/assets/")
        path = signed["url"].removeprefix("https://fabric.example")
        async with httpx.AsyncClient(base_url=edge.url) as anybody:
            assert (await anybody.get(path)).content == DIGITS
            assert (await anybody.get(path, headers={"x-organization-id": "mine"})).content == DIGITS
            assert (await anybody.get(path, headers={"range": "bytes=0-1"})).content == b"01"
            assert error_of(await anybody.get(f"/v1/assets/{asset['id']}")) == (401, "unauthorized")
            for forged in (
                path[:-1] + ("0" if path[-1] != "0" else "1"),
                path.replace("expires=", "expires=1"),
                path.replace(asset["id"], other["id"]),
                f"/v1/assets/{asset['id']}?signature=é",
                path + "&signature=",
            ):
                assert error_of(await anybody.get(forged)) == (403, "forbidden"), forged
            past = edge.parts.links.url(
                asset["id"], edge.parts.links.until(await edge.parts.assets.get(None, asset["id"]), -1)
            )
            expired = await anybody.get(past.removeprefix("https://fabric.example"))
            assert error_of(expired) == (403, "forbidden")
            assert "has expired" in expired.json()["error"]["message"]
            await edge.client.delete(f"/v1/assets/{asset['id']}")
            assert error_of(await anybody.get(path)) == (404, "not_found")


async def test_the_key_of_signed_urls_is_the_owner_s_alone(small: Edge, tmp_path: Path) -> None:
    assert (tmp_path / "assets.key").stat().st_mode & 0o777 == 0o600
    body = {"ttl_seconds": 8 * 24 * 3600}
    refused = await small.client.post(f"/v1/assets/{(await uploaded(small))['id']}/signed-url", json=body)
    assert error_of(refused) == (400, "input_validation_failed")


# ---- in jobs ----


async def test_an_uploaded_sound_is_transcribed_by_its_id(box: Edge) -> None:
    asset = await uploaded(box, WAV)
    body = {"modality": "audio", "input": {"asset_id": asset["id"]}}
    job = await box.ended((await box.client.post("/v1/jobs", json=body)).json()["data"]["id"])
    assert job["status"] == "completed", job
    assert job["input"] == {"asset_id": asset["id"]}
    assert job["output"]["duration_s"] == len(WAV) / 32_000  # of the fake engine: all bytes were there
    direct = (await box.client.post("/v1/providers/execute", json=body)).json()["data"]
    assert direct["output"] == job["output"]
    assert (await box.client.post("/v1/providers/estimate", json=body)).status_code == 200


async def test_base64_of_a_job_becomes_an_asset_and_is_nowhere_in_the_database(own_box: Edge, tmp_path: Path) -> None:
    data = bytes(range(256)) * 200
    text = base64.b64encode(data).decode()
    bodies = [
        {"modality": "audio", "input": {"audio": f"data:audio/wav;base64,{text}"}},
        {"modality": "image", "input": {"prompt": "a", "image": text}, "params": {"strength": 0.5}},
    ]
    for body in bodies:
        job = await own_box.ended((await own_box.client.post("/v1/jobs", json=body)).json()["data"]["id"])
        assert job["status"] == "completed", job
        field = "asset_id" if body["modality"] == "audio" else "image"
        assert set(job["input"]) == set(body["input"]) - {"audio"} | {field}  # type: ignore[call-overload]
        asset = (await own_box.client.get("/v1/assets", params={"limit": 200})).json()["data"]
        kept = next(each for each in asset if each["id"] == job["input"][field])  # type: ignore[index]
        assert kept["size_bytes"] == len(data)
        assert kept["expires_at"] is not None
        assert (await own_box.client.get(f"/v1/assets/{kept['id']}")).content == data
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("fabric.db*"))
    assert len(stored) > 10_000
    for start in range(0, len(text) - 64, 64):
        assert text[start : start + 64].encode() not in stored
    assert data[:256] not in stored


async def test_a_repeated_key_leaves_no_second_copy(own_edge: Edge) -> None:
    body = {"modality": "audio", "model": "echo", "input": {"audio": "AAAA"}, "idempotency_key": "once"}
    first, second = [await own_edge.client.post("/v1/jobs", json=body) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json()["data"]["input"] == first.json()["data"]["input"]
    assert len((await own_edge.client.get("/v1/assets")).json()["data"]) == 1


async def test_a_job_that_is_refused_after_all_leaves_no_file(own_edge: Edge) -> None:
    body = {"modality": "audio", "model": "echo", "input": {"audio": "AAAA"}, "idempotency_key": "once"}
    await own_edge.client.post("/v1/jobs", json=body)
    refused = await own_edge.client.post("/v1/jobs", json=body | {"input": {"audio": "BBBB"}})
    assert error_of(refused) == (422, "idempotency_key_reused")
    assert len((await own_edge.client.get("/v1/assets")).json()["data"]) == 1


async def test_a_file_behind_a_url_is_fetched_when_the_job_is_sent(small: Edge) -> None:
    asset = await uploaded(small, WAV[:LIMIT])
    signed = (await small.client.post(f"/v1/assets/{asset['id']}/signed-url")).json()["data"]
    url = small.url + signed["url"]
    for body in (
        {"modality": "audio", "model": "echo", "input": {"audio_url": url}},
        {"modality": "image", "model": "echo", "input": {"prompt": "a", "image": url}},
    ):
        job = await small.ended((await small.client.post("/v1/jobs", json=body)).json()["data"]["id"])
        assert job["status"] == "completed", job
        assert job["input"] == body["input"]
        assert (await small.client.post("/v1/providers/execute", json=body)).status_code == 200
        refused = await small.client.post("/v1/providers/estimate", json=body)
        assert error_of(refused) == (400, "input_validation_failed")


async def test_a_url_that_leads_nowhere_fails_its_job_with_the_reason(small: Edge) -> None:
    url = f"{small.url}/v1/assets/asset_gone"
    body = {"modality": "audio", "model": "echo", "input": {"audio_url": url}}
    job = await small.ended((await small.client.post("/v1/jobs", json=body)).json()["data"]["id"])
    assert job["status"] == "failed"
    assert "input.audio_url" in job["error"]["message"]  # type: ignore[index]
    assert "404" in job["error"]["message"]  # type: ignore[index]
    assert error_of(await small.client.post("/v1/providers/execute", json=body)) == (400, "input_validation_failed")


async def test_a_url_of_a_private_address_is_refused_at_once(edge: Edge) -> None:
    for url in ("http://127.0.0.1:1/a", "http://169.254.169.254/latest", "ftp://example.org/a", "http://[::1]/"):
        for path in ("/v1/jobs", "/v1/providers/execute"):
            body = {"modality": "audio", "model": "echo", "input": {"audio_url": url}}
            refused = await edge.client.post(path, json=body)
            assert error_of(refused) == (400, "input_validation_failed"), url
            assert refused.json()["error"]["details"]["errors"][0]["path"] == "input.audio_url"


async def test_an_asset_that_is_not_there_refuses_the_job(edge: Edge) -> None:
    for gone in ("asset_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"):
        body = {"modality": "audio", "model": "echo", "input": {"asset_id": gone}}
        refused = await edge.client.post("/v1/jobs", json=body)
        assert error_of(refused) == (404, "not_found")
        assert "input.asset_id" in refused.json()["error"]["message"]


async def test_an_asset_that_went_while_its_job_waited_fails_the_job(edge: Edge) -> None:
    asset = await uploaded(edge, WAV)
    organization_id = OrganizationId(asset["organization_id"])
    fields = {"modality": Modality.AUDIO, "model": "echo", "input": {"asset_id": asset["id"]}}
    await edge.client.delete(f"/v1/assets/{asset['id']}")
    job = new_job(a_request(**fields, organization_id=organization_id), time.time())
    await edge.parts.store.create(job, 1000)
    edge.parts.runner.wake()
    ended = await edge.ended(job.id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "not_found")  # type: ignore[index]
    assert asset["id"] in ended["error"]["message"]  # type: ignore[index]


async def test_pictures_come_as_assets_with_urls_that_anybody_can_open(box: Edge) -> None:
    body = {"modality": "image", "input": {"prompt": "red"}, "params": {"width": 32, "height": 16, "n": 2, "seed": 7}}
    job = await box.ended((await box.client.post("/v1/jobs", json=body)).json()["data"]["id"])
    direct = (await box.client.post("/v1/providers/execute", json=body)).json()["data"]
    streamed = (await box.client.post("/v1/providers/execute/stream", json=body)).text
    for output in (job["output"], direct["output"]):
        assert [image["seed"] for image in output["images"]] == [7, 8]  # type: ignore[index]
        for image in output["images"]:  # type: ignore[index]
            assert set(image) == {"asset_id", "url", "content_type", "width", "height", "seed"}
            async with httpx.AsyncClient(base_url=box.url) as anybody:
                opened = await anybody.get(image["url"])
            assert opened.headers["content-type"] == image["content_type"] == "image/png"
            assert png_size(opened.content) == (image["width"], image["height"]) == (32, 16)
            asset = (await box.client.get("/v1/assets", params={"limit": 200})).json()["data"]
            assert next(each for each in asset if each["id"] == image["asset_id"])["expires_at"] is not None
    assert "asset_id" in streamed


async def test_no_picture_is_begun_when_the_quota_is_spent(small: Edge) -> None:
    for _ in range(2):
        await uploaded(small, bytes(LIMIT))
    body = {"modality": "image", "model": "echo", "input": {"prompt": "red"}}
    assert error_of(await small.client.post("/v1/jobs", json=body)) == (429, "quota_exceeded")


async def test_many_embeddings_are_kept_in_a_file_and_come_with_their_job_alone(edge: Edge) -> None:
    texts = [f"text {index}" for index in range(20)]
    body: Json = {"modality": "embedding", "model": "echo", "input": {"texts": texts}, "params": {"dimensions": 4096}}
    job: Json = await edge.ended((await edge.client.post("/v1/jobs", json=body)).json()["data"]["id"])
    direct = (await edge.client.post("/v1/providers/execute", json=body)).json()["data"]
    assert job["output"] == direct["output"]
    assert [len(row) for row in job["output"]["embeddings"]] == [4096] * 20
    page = await edge.client.get("/v1/jobs")
    listed = page.json()["data"]["jobs"][0]["output"]
    assert (listed["embeddings"], listed["dimensions"]) == (None, 4096)
    assert len(page.content) < 10_000
    async with httpx.AsyncClient(base_url=edge.url) as anybody:
        assert (await anybody.get(listed["url"])).json() == job["output"]
    await edge.client.delete(f"/v1/assets/{listed['asset_id']}")
    assert (await edge.client.get(f"/v1/jobs/{job['id']}")).json()["data"]["output"] == listed
