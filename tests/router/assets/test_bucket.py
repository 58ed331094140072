"""A router whose assets are in a bucket: the same over HTTP, and nothing of theirs beside the database."""

from pathlib import Path

import boto3
import httpx
from edge import Edge, answering

from router.settings import RouterSettings

SOUND = (Path(__file__).parents[2] / "node" / "engines" / "whisper" / "files" / "spoken.ogg").read_bytes()


async def test_files_come_and_go_and_jobs_take_and_make_them(bucket: str, tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=(), assets_url=bucket)
    async with answering(settings) as edge:
        response = await edge.client.post("/v1/assets", content=SOUND, params={"filename": "a.ogg"})
        asset = response.json()["data"]
        path = f"/v1/assets/{asset['id']}"
        assert asset["content_type"] == "audio/ogg"
        assert (await edge.client.get(path)).content == SOUND
        part = await edge.client.get(path, headers={"range": "bytes=-10"})
        assert (part.status_code, part.content) == (206, SOUND[-10:])

        sound = await job(edge, {"modality": "audio", "input": {"asset_id": asset["id"]}})
        picture = await job(edge, {"modality": "image", "input": {"prompt": "red"}})
        assert sound["status"] == picture["status"] == "completed"
        url = picture["output"]["images"][0]["url"]  # type: ignore[index]
        assert (await edge.client.get(url)).content.startswith(b"\x89PNG")
        assert len(keys()) == 2
        await edge.client.delete(path)
        assert len(keys()) == 1
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and each.read_bytes().startswith(SOUND[:64])]

    async with answering(settings) as edge:  # another start finds what the first has kept
        assert (await edge.client.get(url)).status_code == httpx.codes.OK


async def job(edge: Edge, body: dict[str, object]) -> dict[str, object]:
    created = await edge.client.post("/v1/jobs", json=body | {"model": "echo"})
    return await edge.ended(created.json()["data"]["id"])


def keys() -> list[str]:
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket="fabric", Prefix="assets/").get("Contents", [])
    client.close()
    return [each["Key"] for each in listed]
