"""GET /v1/jobs/{id}/explain against a running router and node."""

import threading
from typing import Any

import httpx
import pytest
from edge import Edge

from router.store import queries

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]  # Any: decoded JSON
TEXT: Json = {"modality": "text", "input": {"prompt": "one two three"}}
SEATS = 4  # of the fake text model: twice so many are at the node, the rest wait in the router


async def explained(edge: Edge, job_id: str) -> Json:
    answer: Json = (await edge.client.get(f"/v1/jobs/{job_id}/explain")).json()["data"]
    return answer


async def created(edge: Edge, **more: object) -> str:
    response = await edge.client.post("/v1/jobs", json=TEXT | more)
    assert response.status_code == httpx.codes.ACCEPTED, response.text
    return str(response.json()["data"]["id"])


async def test_a_full_place_holds_the_next_and_says_so(box: Edge, gate: threading.Event) -> None:
    gate.clear()
    for _ in range(2 * SEATS):
        await created(box)
    await box.until("/v1/nodes", lambda response: _tasks(response) == 2 * SEATS)
    first, second = await created(box), await created(box)
    # The place has two seconds to say when: on a machine that stands still it may have to be asked again.
    told = await box.until(f"/v1/jobs/{first}/explain", lambda answer: answer.json()["data"]["expected_start_at"])
    held = told.json()["data"]
    assert (held["status"], held["position"], held["held_by"]["code"]) == ("pending", 1, "no_room")
    assert f"of {SEATS} seats taken" in held["held_by"]["message"]
    assert (await explained(box, second))["position"] == 2
    assert await box.parts.store.look(queries.waiting("default:text", 50)) == 2
    assert await box.parts.store.look(queries.waiting("default:text", 51)) == 0
    assert held["expected_start_at"] <= held["expected_end_at"]  # the fake engine takes no time
    assert [each["provider_id"] for each in held["routing"]["candidates"]] == ["node"]
    assert [each["provider_id"] for each in held["routing"]["skipped"]] == ["echo"]
    gate.set()
    await box.ended(second)


def _tasks(response: httpx.Response) -> int:
    """At the node, for its text model."""
    models = response.json()["data"][0]["models"]
    return sum(model["waiting"] + model["running"] for model in models if model["id"] == "fake-text")


async def test_a_running_and_an_ended_job_tell_where_they_went_and_why(box: Edge, gate: threading.Event) -> None:
    gate.clear()
    job_id = await created(box)
    await box.until(f"/v1/jobs/{job_id}", lambda response: response.json()["data"]["status"] == "started")
    running = await explained(box, job_id)
    assert (running["held_by"], running["position"]) == (None, None)
    assert running["routing"]["candidates"][0]["reason"].startswith("serves fake-text")
    gate.set()
    await box.ended(job_id)
    ended = await explained(box, job_id)
    assert ended["summary"] == "the job has ended as completed at node"
    assert ended["routing"] == running["routing"]
    (attempt,) = ended["attempts"]
    assert (attempt["number"], attempt["provider_id"], attempt["cause"]) == (1, "node", None)
    assert attempt["started_at"] <= attempt["ended_at"] == ended["expected_end_at"]


async def test_a_deadline_ends_what_still_waits(box: Edge, gate: threading.Event) -> None:
    gate.clear()
    for _ in range(2 * SEATS):
        await created(box)
    job_id = await created(box, deadline_s=0.3)
    job = await box.ended(job_id)
    assert (job["status"], job["attempts"]) == ("failed", 0)
    error = job["error"]
    assert isinstance(error, dict)
    assert error["code"] == "deadline_exceeded"
    ended = await explained(box, job_id)
    assert ended["summary"].startswith("the job has ended as failed, never started with deadline_exceeded")
    assert str(job["created_at"]) < ended["deadline_at"] <= str(job["completed_at"])
    gate.set()


async def test_an_unknown_job_is_404(edge: Edge) -> None:
    assert (await edge.client.get("/v1/jobs/job_nobody/explain")).status_code == httpx.codes.NOT_FOUND
