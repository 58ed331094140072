"""Health, readiness, nodes, providers, metrics, and the API's own description."""

import re
from pathlib import Path

import pytest
from edge import Edge, answering
from prometheus_client.parser import text_string_to_metric_families

from protos.types import ProviderId, Tier
from providers.base import Health, Snapshot
from router.api.system import readiness_of
from router.settings import RouterSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNREACHED = Snapshot(
    id=ProviderId("node"),
    kind="node",
    tier=Tier.BASIC,
    offers=(),
    health=Health(status="unavailable", reason="node a:1 cannot be reached"),
)


async def test_a_router_with_a_ready_node_is_ready(box: Edge) -> None:
    response = await box.client.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {"ready": True, "reason": "", "checks": {"store": "ok", "node": "ok"}},
    )
    assert (await box.client.get("/v1/health")).json()["data"]["status"] == "ok"


async def test_without_a_node_it_is_alive_but_not_ready_and_says_why(edge: Edge) -> None:
    response = await edge.client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert "FABRIC_NODES" in response.json()["reason"]
    assert (await edge.client.get("/healthz")).json() == {"status": "ok"}
    health = await edge.client.get("/v1/health")
    assert (health.status_code, health.json()["data"]["status"]) == (200, "degraded")


async def test_with_a_broken_store_it_is_not_ready(own_edge: Edge) -> None:
    await own_edge.parts.store.close()
    response = await own_edge.client.get("/readyz")
    await own_edge.parts.store.open()
    assert response.status_code == 503
    assert response.json()["reason"].startswith("store: ")


async def test_readiness_names_each_node_that_is_missing() -> None:
    readiness = readiness_of("ok", [UNREACHED])
    assert (readiness.ready, readiness.reason) == (False, "node: node a:1 cannot be reached")


async def test_a_node_shows_its_device_models_and_queues(box: Edge) -> None:
    (node,) = (await box.client.get("/v1/nodes")).json()["data"]
    assert (node["id"], node["node_id"], node["ready"]) == ("node", "node-0", True)
    assert node["device"]["kind"] == "cpu"
    assert node["device"]["total_bytes"] > 0
    text = next(model for model in node["models"] if model["id"] == "fake-text")
    assert (text["modality"], text["state"], text["max_batch"], text["waiting_limit"]) == ("text", "ready", 4, 8)
    for id_ in ("node", "node-0"):
        assert (await box.client.get(f"/v1/nodes/{id_}")).json()["data"]["id"] == "node"


async def test_a_node_of_nobody_is_404(edge: Edge) -> None:
    response = await edge.client.get("/v1/nodes/node-9")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


async def test_a_node_never_reached_has_all_its_keys(tmp_path: Path) -> None:
    settings = RouterSettings(port=0, data_dir=tmp_path, nodes=("127.0.0.1:9",))
    async with answering(settings) as edge:
        (node,) = (await edge.client.get("/v1/nodes")).json()["data"]
        assert (node["ready"], node["device"], node["models"]) == (False, None, [])
        provider = (await edge.client.get("/v1/providers")).json()["data"][0]
        assert (provider["id"], provider["model"], provider["models"]) == ("node", None, [])


async def test_providers_say_what_they_serve(box: Edge) -> None:
    node, echo = (await box.client.get("/v1/providers")).json()["data"]
    assert set(node) == {
        "id",
        "provider_id",
        "tier",
        "modalities",
        "modality",
        "model",
        "models",
        "supports_streaming",
        "estimated_cost_per_request",
        "health",
    }
    assert (node["id"], node["tier"], node["model"], node["health"]["status"]) == (
        "node",
        "basic",
        "fake-text",
        "healthy",
    )
    assert set(node["modalities"]) == set(echo["modalities"]) == {"text", "image", "audio", "embedding"}
    assert node["estimated_cost_per_request"] == 0


async def test_info_names_the_bounds(edge: Edge) -> None:
    info = (await edge.client.get("/v1/system/info")).json()["data"]
    assert info["limits"]["body_bytes"] == RouterSettings().body_bytes
    assert all(isinstance(limit, int) for limit in info["limits"].values())
    assert set(info["modalities"]) == {"text", "image", "audio", "embedding"}


async def test_metrics_are_prometheus_text_with_jobs_models_and_requests(own_box: Edge) -> None:
    body = {"modality": "text", "input": {"prompt": "one two"}}
    job = (await own_box.client.post("/v1/jobs", json=body)).json()["data"]
    await own_box.ended(job["id"])
    response = await own_box.client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert response.headers["content-type"].startswith("text/plain")
    assert {sample.labels["state"]: sample.value for sample in families["fabric_jobs"].samples} == {
        "pending": 0,
        "started": 0,
    }
    events = {
        sample.labels["kind"]: sample.value
        for sample in families["fabric_job_events"].samples
        if "kind" in sample.labels and sample.name.endswith("_total")
    }
    assert events == {"job.created": 1, "job.started": 1, "job.completed": 1}
    assert {sample.labels["model"] for sample in families["fabric_model_waiting"].samples} == {
        "fake-text",
        "fake-embedding",
        "fake-image",
        "fake-audio",
    }
    routes = {sample.labels["route"] for sample in families["fabric_http_request_seconds"].samples}
    assert {"/v1/jobs", "/v1/jobs/{job_id}/events"} <= routes
    assert not [route for route in routes if "job_" in route.replace("job_id", "")]


# ---- the description ----


async def test_every_route_documents_its_success_and_the_one_error_shape(edge: Edge) -> None:
    document = (await edge.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            responses = operation["responses"]
            error = responses["default"]["content"]["application/json"]["schema"]
            assert error
            tags = set(operation["tags"])
            if not {"openai", "fairstack"} & tags:  # dialects have an error shape of their own
                assert error["$ref"].endswith("/Failure")
            assert "422" not in responses, f"{method} {path}: the framework's own error is not ours"
            good = [shown for status, shown in responses.items() if status.startswith("2")]
            assert good, f"{method} {path} documents no success"
            (kind, shown), *_ = good[0].get("content", {"none": {}}).items()
            assert kind != "application/json" or shown["schema"], f"{method} {path} has no schema"


async def test_every_reference_of_the_description_resolves(edge: Edge) -> None:
    text = (await edge.client.get("/openapi.json")).text
    schemas = (await edge.client.get("/openapi.json")).json()["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert referred
    assert referred <= set(schemas)


async def test_answers_are_as_described(box: Edge) -> None:
    """The fields of a real answer are those of its documented schema."""
    schemas = (await box.client.get("/openapi.json")).json()["components"]["schemas"]
    job = (await box.client.post("/v1/jobs", json={"modality": "text", "input": {"prompt": "x"}})).json()["data"]
    assert set(job) == set(schemas["JobShape"]["properties"]) == set(schemas["JobShape"]["required"])
    (node,) = (await box.client.get("/v1/nodes")).json()["data"]
    assert set(node) == set(schemas["NodeShape"]["properties"])


async def test_input_and_params_are_described_for_each_modality(edge: Edge) -> None:
    schemas = (await edge.client.get("/openapi.json")).json()["components"]["schemas"]
    for body in ("JobBody", "DirectBody"):
        for field, kind in (("input", "Input"), ("params", "Params")):
            shown = {each["$ref"].rpartition("/")[2] for each in schemas[body]["properties"][field]["anyOf"]}
            assert shown == {f"{modality}{kind}" for modality in ("Text", "Image", "Audio", "Embedding")}
    assert schemas["TextParams"]["properties"]["temperature"]


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"])
async def test_the_docs_page_loads_from_this_machine_alone(edge: Edge, name: str) -> None:
    page = (await edge.client.get("/docs")).text
    assert f"/docs/assets/{name}" in page
    assert "http" not in re.sub(r"<!--.*?-->", "", page)
    asset = await edge.client.get(f"/docs/assets/{name}")
    assert asset.status_code == 200
    assert len(asset.content) > 1000
