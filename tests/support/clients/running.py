"""Runs a sample against a world: the printed text as it stands, but for the base URL and what stands for a value.

Not about what has to come of it (checks.py).
"""

import asyncio
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from clients.flat import Flat
from clients.sample import Curl, Generation, Http, Python, Sample
from clients.world import World
from edge import BOUND_S

Found = Any  # decoded JSON of any shape
KEY: Final = "fs_live_YOUR_KEY"
FAIRSTACK: Final = "/fairstack/v1"
_ENDED: Final = frozenset({"succeeded", "partial", "failed", "cancelled"})
_DATA: Final = re.compile(r"^data: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Stage:
    """Where samples run. `org`: an organization with one job, which has completed. `other`: of new jobs."""

    world: World
    flat: Flat
    org: str
    other: str

    async def run(self, sample: Sample) -> Found:
        match sample.how:
            case Python():
                return await self._python(sample.text, sample.how)
            case Curl(on_a_waiting_job=True):
                return await self._curl(self._filled(sample.text, await self.world.job()))
            case Curl():
                return await self._curl(self._filled(sample.text, self.world.done["id"]))
            case Http():
                return await self._http(sample.how)
            case Generation():
                return await self._generation(sample.how)
            case _:
                assert_never(sample.how)

    # ---- each way ----

    async def _python(self, text: str, how: Python) -> Found:
        code = "\n".join(part for part in (how.given, how.instead or how.laid_out or text, how.then) if part)
        done = self.world.done
        names = {
            "base_url": self.world.url,
            "org": {"id": self.org},
            "job": done,
            "job_id": done["id"],
            "run_id": done["workflow_run_id"],
        }
        ran = await self.flat.ran(self._filled(code, done["id"]), names, how.prints)
        assert ran.error is None, ran.error
        return ran.printed or ran.value

    async def _curl(self, text: str) -> Found:
        """The page joins lines that ended in a backslash."""
        program, *arguments = shlex.split(re.sub(r"\\\s+", "", text))
        process = await asyncio.create_subprocess_exec(
            program,
            *("--silent", "--show-error", "--fail-with-body", "--noproxy", "*"),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(BOUND_S):
            out, complaint = await process.communicate()
        assert process.returncode == 0, (complaint, out)
        return _told(out.decode())

    async def _http(self, how: Http) -> Found:
        path, body = json.loads(self._filled(json.dumps([how.path, how.body]), self.world.done["id"]))
        response = await self.world.edge.client.request(how.method, path, json=body, headers=how.headers)
        assert response.is_success, response.text
        return _told(response.text)

    async def _generation(self, how: Generation) -> Found:
        receiver, client = self.world.receiver, self.world.edge.client
        called_before = len(receiver.received)
        body: Mapping[str, Any] = {"webhook_url": receiver.url("/fairstack")} if how.is_called_back else {}
        headers = {"Authorization": f"Bearer {KEY}"}
        path = f"{FAIRSTACK}/generations/{how.modality}"
        submitted = await client.post(path, json={**how.body, **body}, headers=headers)
        assert submitted.is_success, submitted.text
        found = {"submitted": submitted.json()}
        path = f"{FAIRSTACK}/jobs/{found['submitted']['job_id']}"
        found["ended"] = (await self.world.edge.until(path, lambda answer: answer.json()["status"] in _ENDED)).json()
        if how.is_called_back:
            call = (await receiver.until(called_before + 1))[called_before]
            assert call.headers["x-fairstack-signature"].startswith("sha256=")
            found["call"] = json.loads(call.body)
        return found

    # ---- what stands for a value ----

    def _filled(self, text: str, job_id: str) -> str:
        url = self.world.url
        values = {
            "https://gofabric.dev": url,
            "https://fabric.example.com": url,
            "https://api.fairstack.ai": f"{url}/fairstack",
            "FabricClient()": f'FabricClient(base_url="{url}")',
            "<org-id>": self.other,
            "<job-id>": job_id,
            "job_abc123": job_id,
            "$FAIRSTACK_API_KEY": KEY,
        }
        for printed, value in values.items():
            text = text.replace(printed, value)
        return text


def _told(text: str) -> Found:
    """The events of a stream, or an answer without its envelope."""
    if not text.startswith("{"):
        return [json.loads(line) for line in _DATA.findall(text)]
    answer = json.loads(text)
    return answer["data"] if "meta" in answer else answer
