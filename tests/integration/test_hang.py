"""A device that hangs: the node's process is replaced, and the job that it ran is run again."""

from pathlib import Path

import httpx

from box import running

CATALOG = """
[[model]]
id = "fake-text"
engine = "fake"
modality = "text"
path = "model"
default = true
preload = true
"""


async def test_a_node_whose_device_hangs_is_replaced_and_its_job_ends_well(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(CATALOG)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "hang").touch()  # the first step finds it, takes it away and never comes back
    async with running(tmp_path / "data", tmp_path / "models.toml", FABRIC_NODE_HANG_S="1") as box:
        async with httpx.AsyncClient(base_url=box.url, timeout=120) as client:
            body = {"modality": "text", "input": {"prompt": "one two three"}}
            created = await client.post("/v1/jobs", json=body)
            path = created.headers["location"]
            await client.get(f"{path}/events")  # ends after the terminal event
            job = (await client.get(path)).json()["data"]
        said = box.log.read_text()
    assert (job["status"], job["output"]["text"], job["attempts"]) == ("completed", "one two three", 2)
    assert "a step of model 'fake-text' has not come back for" in said
    assert "node-0 ended with exit status 3: its device hung, starting it again" in said
