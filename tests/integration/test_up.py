"""The whole path with the models that ship: real processes, real sockets, right answers."""

import asyncio
import base64
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio
from PIL import Image

from box import ROOT, Box, free_port, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with running(tmp_path_factory.mktemp("data"), ROOT / "models.toml") as box:
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def client(box: Box) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=box.url, timeout=120) as client:
        yield client


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _ended(client: httpx.AsyncClient, body: dict[str, object]) -> dict[str, object]:
    created = await client.post("/v1/jobs", json=body)
    assert created.status_code == 202, created.text
    path = created.headers["location"]
    await client.get(f"{path}/events")  # ends after the terminal event
    job: dict[str, object] = (await client.get(path)).json()["data"]
    return job


def _chat(prompt: str, **params: object) -> dict[str, object]:
    return {"modality": "text", "input": {"prompt": prompt}, "params": {"temperature": 0, **params}}


async def test_a_chat_job_gets_the_right_answer(client: httpx.AsyncClient) -> None:
    job = await _ended(client, _chat("What is 3 plus 4?"))
    assert job["status"] == "completed"
    assert "7" in job["output"]["text"]  # type: ignore[index]  # decoded JSON
    assert job["output"]["finish_reason"] == "stop"  # type: ignore[index]
    assert (job["provider_id"], job["model"], job["attempts"]) == ("node", "fabric-chat", 1)


async def test_an_embedding_job_finds_the_nearest_texts(client: httpx.AsyncClient) -> None:
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "The train to Paris leaves at noon."]
    job = await _ended(client, {"modality": "embedding", "input": {"texts": texts}})
    first, second, third = job["output"]["embeddings"]  # type: ignore[index]  # decoded JSON
    assert job["output"]["dimensions"] == len(first) == 384  # type: ignore[index]
    cosine = [sum(a * b for a, b in zip(first, other, strict=True)) for other in (first, second, third)]
    assert cosine[0] == pytest.approx(1, abs=1e-5)
    assert cosine[1] > 0.5 > cosine[2]


async def test_the_events_of_a_job_are_replayed_in_order_and_resumed(client: httpx.AsyncClient) -> None:
    job = await _ended(client, _chat("What is 2 plus 2?"))
    path = f"/v1/jobs/{job['id']}/events"
    whole = _events(await client.get(path))
    assert [event["kind"] for event in whole] == ["job.created", "job.started", "job.completed"]
    resumed = _events(await client.get(path, headers={"Last-Event-ID": "1"}))
    assert resumed == whole[1:]


async def test_text_is_streamed_while_it_is_made(client: httpx.AsyncClient, box: Box) -> None:
    path, events = await _followed(client, box, _chat("Count from 1 to 10."))
    streamed = "".join(event["payload"]["text"] for event in events if event["kind"] == "job.output")
    assert streamed == (await client.get(path)).json()["data"]["output"]["text"]


async def _followed(
    client: httpx.AsyncClient, box: Box, body: dict[str, object]
) -> tuple[str, list[dict[str, dict[str, str]]]]:
    """A job's path and its events with its output. The node stands still until its follower is there: it would be done
    before that, now and then."""
    node = box.child("node.cli")
    assert node is not None
    node.suspend()
    try:
        path = (await client.post("/v1/jobs", json=body)).headers["location"]
        async with client.stream("GET", f"{path}/events", params={"include_output": "true"}) as response:
            lines = response.aiter_lines()
            told = [next_line async for next_line in _until_data(lines)]
            node.resume()
            told += [line async for line in lines]
    finally:
        node.resume()
    return path, _decoded(told)


async def _until_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith("data: "):
            return


def _picture(**params: object) -> dict[str, object]:
    return {"modality": "image", "input": {"prompt": "a red circle"}, "params": {"steps": 9, "seed": 1, **params}}


async def test_previews_of_a_picture_are_shown_while_it_is_drawn_to_who_asked(
    client: httpx.AsyncClient, box: Box
) -> None:
    path, events = await _followed(client, box, _picture(preview_every=4))
    kinds = [event["kind"] for event in events if event["kind"] != "job.progress"]
    assert kinds[-1] == "job.completed"
    assert "job.output" in kinds[:-1]  # a follower who is slow gets the latest alone
    shown = [event["payload"]["preview"] for event in events if event["kind"] == "job.output"]
    _look(shown)  # type: ignore[arg-type]  # decoded JSON
    stored = _events(await client.get(f"{path}/events"))
    assert not [event for event in stored if event["kind"] == "job.output"]


async def test_a_direct_call_streams_previews_to_who_asked_alone(client: httpx.AsyncClient) -> None:
    asked, silent = [
        (await client.post("/v1/providers/execute/stream", json=body)).text.split("\n\n")
        for body in (_picture(preview_every=4), _picture())
    ]
    lines = [json.loads(event.split("data: ")[1]) for event in asked if event.startswith("event: output")]
    names = [event.splitlines()[0] for event in asked if event.startswith("event: ")]
    assert names[-1] == "event: completed"
    _look([line["preview"] for line in lines])
    assert not [event for event in silent if event.startswith("event: output")]


def _look(previews: list[dict[str, str]]) -> None:
    """The last one is already red in the middle of the circle's ground or figure: a picture, not noise."""
    pictures = [Image.open(io.BytesIO(base64.b64decode(preview["data"]))).convert("RGB") for preview in previews]
    assert pictures
    assert {picture.size for picture in pictures} == {(64, 64)}
    reddest = max(
        red - (green + blue) / 2
        for red, green, blue in zip(*(_band(pictures[-1], band) for band in range(3)), strict=True)
    )
    assert reddest > 60


def _band(picture: Image.Image, band: int) -> bytes:
    return picture.getchannel(band).tobytes()


async def test_thirty_two_chats_at_once_answer_as_one_by_one(client: httpx.AsyncClient) -> None:
    prompts = [f"What is {a} plus {b}?" for a in range(1, 9) for b in range(1, 5)]
    together = await asyncio.gather(*(_ended(client, _chat(prompt)) for prompt in prompts))
    assert [job["error"] for job in together] == [None] * len(prompts)
    for prompt, job in zip(prompts, together, strict=True):
        alone = await client.post("/v1/providers/execute", json=_chat(prompt))
        assert job["output"]["text"] == alone.json()["data"]["output"]["text"]  # type: ignore[index]


async def test_the_tour_shows_right_answers(box: Box, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "router.cli", "tour", "--url", box.url]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    tour = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=here, stdout=subprocess.PIPE)
    output = (await tour.communicate())[0].decode()
    assert tour.returncode == 0, output
    assert "7" in output
    assert "A kitten naps on the couch." in output
    assert f"{box.url}/docs" in output
    assert (tmp_path / "a-red-circle.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.rounds(1)
async def test_a_node_that_dies_is_started_again_and_serves(client: httpx.AsyncClient, box: Box) -> None:
    node = box.child("node.cli")
    assert node is not None
    node.kill()
    job = await _ended(client, _chat("What is 5 plus 5?"))
    assert (job["status"], box.child("node.cli") is not None) == ("completed", True)
    assert "10" in job["output"]["text"]  # type: ignore[index]  # decoded JSON


async def test_ctrl_c_ends_everything_cleanly(tmp_path: Path, fake_models: Path) -> None:
    async with running(tmp_path / "data", fake_models) as box:
        family = psutil.Process(box.process.pid).children(recursive=True)
        assert len(family) == 2
        assert await box.stop() == 0
        assert psutil.wait_procs(family, timeout=60)[1] == []


@pytest.mark.rounds(1)
async def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path, fake_models: Path) -> None:
    async with running(tmp_path / "data", fake_models) as box:
        family = psutil.Process(box.process.pid).children(recursive=True)
        box.process.kill()
        assert len(family) == 2
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 60)
        assert alive == []


async def test_a_taken_port_says_by_what_to_change_it(tmp_path: Path, fake_models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "router.cli", "up", "--devices", "cpu", "--models", str(fake_models)]
        command += ["--port", str(port), "--node-port", str(free_port()), "--data", str(tmp_path)]
        command += ["--grpc-port", str(free_port())]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert f"{port}" in ended.stderr
    assert "--port" in ended.stderr


def _events(response: httpx.Response) -> list[dict[str, dict[str, str]]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    return _decoded(response.text.splitlines())


def _decoded(lines: Iterable[str]) -> list[dict[str, dict[str, str]]]:
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
