"""Pages 000 and 001, "Submitting Jobs": TypeScript on both; Python, Rust and curl on the second."""

from typing import Any, Final

from clients.checks import (
    are_a_job_s_events,
    are_kinds_and_payloads,
    is_a_job,
    is_a_job_s_usage,
    is_a_page,
    is_a_vendor_s_estimate,
    is_done,
)
from clients.sample import Curl, Http, Python, Sample

AS_PRINTED: Final = {"Authorization": "Bearer fab_xxx"}
_JOB: Final[dict[str, Any]] = {  # Any: JSON
    "modality": "text",
    "tier": "basic",
    "input": {"prompt": "Summarize this article"},
    "params": {"temperature": 0.5},
    "organization_id": "<org-id>",
}
_ONCE: Final[dict[str, Any]] = {  # as above
    "modality": "text",
    "input": {"prompt": "Generate a summary"},
    "organization_id": "<org-id>",
    "idempotency_key": "client-request-abc-123",
}
_ESTIMATE: Final[dict[str, Any]] = {  # as above
    "modality": "text",
    "model": "gpt-4",
    "input": {"prompt": "Generate a summary"},
}

CREATE: Final = Http("POST", "/v1/jobs", _JOB, AS_PRINTED)
CREATE_ONCE: Final = Http("POST", "/v1/jobs", _ONCE, AS_PRINTED)
GET: Final = Http("GET", "/v1/jobs/<job-id>")
LIST: Final = Http("GET", "/v1/jobs")
USAGE: Final = Http("GET", "/v1/jobs/<job-id>/usage")
ESTIMATE: Final = Http("POST", "/v1/providers/estimate", _ESTIMATE)
EVENTS: Final = Http("GET", "/v1/jobs/<job-id>/events")

TYPESCRIPT: Final = (
    Sample(
        "000-ts-create",
        """const fabric = new FabricClient({ apiKey: "fab_xxx" });
const job = await fabric.createJob({
modality: "text",
tier: "basic",
input: { prompt: "Summarize this article" },
params: { temperature: 0.5 },
organizationId: "<org-id>",
});
console.log(job.id, job.status);""",
        CREATE,
        is_a_job,
    ),
    Sample("000-ts-get", 'const job = await fabric.getJob("<job-id>");', GET, is_done),
    Sample("000-ts-list", "const jobs = await fabric.listJobs();", LIST, is_a_page),
    Sample("000-ts-usage", 'const usage = await fabric.getJobUsage("<job-id>");', USAGE, is_a_job_s_usage),
    Sample(
        "000-ts-idempotent",
        """const job = await fabric.createJob({
modality: "text",
input: { prompt: "Generate a summary" },
organizationId: "<org-id>",
idempotencyKey: "client-request-abc-123",
});""",
        CREATE_ONCE,
        is_a_job,
        is_repeatable=True,
    ),
    Sample(
        "000-ts-estimate",
        """const estimate = await fabric.estimateCost({
modality: "text",
model: "gpt-4",
input: { prompt: "Generate a summary" },
});""",
        ESTIMATE,
        is_a_vendor_s_estimate,
    ),
    Sample(
        "000-ts-events",
        """await fabric.streamEvents("<job-id>", (event) => {
console.log(event.kind, event.payload);
});""",
        EVENTS,
        are_a_job_s_events,
    ),
    Sample(
        "001-ts-create",
        """const fabric = new FabricClient({ apiKey: "fab_xxx" });
const job = await fabric.createJob({ modality: "text", tier: "basic", input: { prompt: "Summarize this article" }, params: { temperature: 0.5 }, organizationId: "<org-id>",});console.log(job.id, job.status);""",
        CREATE,
        is_a_job,
    ),
    Sample("001-ts-get", 'const job = await fabric.getJob("<job-id>");', GET, is_done),
    Sample("001-ts-list", "const jobs = await fabric.listJobs();", LIST, is_a_page),
    Sample("001-ts-usage", 'const usage = await fabric.getJobUsage("<job-id>");', USAGE, is_a_job_s_usage),
    Sample(
        "001-ts-idempotent",
        """const job = await fabric.createJob({ modality: "text", input: { prompt: "Generate a summary" }, organizationId: "<org-id>", idempotencyKey: "client-request-abc-123",});""",
        CREATE_ONCE,
        is_a_job,
        is_repeatable=True,
    ),
    Sample(
        "001-ts-estimate",
        """const estimate = await fabric.estimateCost({ modality: "text", model: "gpt-4", input: { prompt: "Generate a summary" },});""",
        ESTIMATE,
        is_a_vendor_s_estimate,
    ),
    Sample(
        "001-ts-events",
        """await fabric.streamEvents("<job-id>", (event) => { console.log(event.kind, event.payload);});""",
        EVENTS,
        are_a_job_s_events,
    ),
)

PYTHON: Final = (
    Sample(  # no release takes `tier` and `organization_id` here
        "001-py-create",
        """fabric = FabricClient(api_key="fab_xxx")
job = fabric.create_job( modality="text", tier="basic", input={"prompt": "Summarize this article"}, params={"temperature": 0.5}, organization_id="<org-id>",)print(job["id"], job["status"])""",
        CREATE,
        is_a_job,
    ),
    Sample("001-py-get", 'job = fabric.get_job("<job-id>")', Python(), is_done),
    Sample("001-py-list", "jobs = fabric.list_jobs()", Python(), is_a_page),
    Sample("001-py-usage", 'usage = fabric.get_job_usage("<job-id>")', Python(), is_a_job_s_usage),
    Sample(  # no release takes `organization_id` here
        "001-py-idempotent",
        """job = fabric.create_job( modality="text", input={"prompt": "Generate a summary"}, organization_id="<org-id>", idempotency_key="client-request-abc-123",)""",
        CREATE_ONCE,
        is_a_job,
        is_repeatable=True,
    ),
    Sample(
        "001-py-estimate",
        """estimate = fabric.estimate_cost( modality="text", model="gpt-4", input={"prompt": "Generate a summary"},)""",
        Python(),
        is_a_vendor_s_estimate,
    ),
    Sample(
        "001-py-events",
        """for event in fabric.stream_job_events("<job-id>"): print(event["kind"], event["payload"])""",
        Python(),
        are_kinds_and_payloads,
    ),
)

RUST: Final = (
    Sample(
        "001-rust-create",
        """let client = FabricClient::new("https://gofabric.dev", api_key)?;
let job = client.create_job(serde_json::json!({ "modality": "text", "tier": "basic", "input": {"prompt": "Summarize this article"}, "params": {"temperature": 0.5}, "organization_id": "<org-id>"})).await?;println!("{} {}", job.id, job.status);""",
        CREATE,
        is_a_job,
    ),
    Sample("001-rust-get", 'let job = client.get_job("<job-id>").await?;', GET, is_done),
    Sample("001-rust-list", "let jobs = client.list_jobs().await?;", LIST, is_a_page),
    Sample("001-rust-usage", 'let usage = client.get_job_usage("<job-id>").await?;', USAGE, is_a_job_s_usage),
    Sample(
        "001-rust-idempotent",
        """let job = client.create_job(serde_json::json!({ "modality": "text", "input": {"prompt": "Generate a summary"}, "organization_id": "<org-id>", "idempotency_key": "client-request-abc-123"})).await?;""",
        CREATE_ONCE,
        is_a_job,
        is_repeatable=True,
    ),
    Sample(
        "001-rust-estimate",
        """let estimate = client.estimate_cost(serde_json::json!({ "modality": "text", "model": "gpt-4", "input": {"prompt": "Generate a summary"}})).await?;""",
        ESTIMATE,
        is_a_vendor_s_estimate,
    ),
    Sample(
        "001-rust-events",
        """let mut stream = client.stream_job_events("<job-id>").await?;while let Some(event) = stream.next().await { println!("{} {:?}", event.kind, event.payload);}""",
        EVENTS,
        are_a_job_s_events,
    ),
)

CURL: Final = (
    Sample(
        "001-curl-create",
        r"""curl -X POST https://gofabric.dev/v1/jobs \ -H 'Authorization: Bearer fab_xxx' \ -H 'content-type: application/json' \ -d '{ "modality": "text", "tier": "basic", "input": {"prompt": "Summarize this article"}, "params": {"temperature": 0.5}, "organization_id": "<org-id>" }'""",
        Curl(),
        is_a_job,
    ),
    Sample("001-curl-get", "curl https://gofabric.dev/v1/jobs/<job-id>", Curl(), is_done),
    Sample("001-curl-list", "curl https://gofabric.dev/v1/jobs", Curl(), is_a_page),
    Sample("001-curl-usage", "curl https://gofabric.dev/v1/jobs/<job-id>/usage", Curl(), is_a_job_s_usage),
    Sample(
        "001-curl-idempotent",
        r"""curl -X POST https://gofabric.dev/v1/jobs \ -H 'Authorization: Bearer fab_xxx' \ -H 'content-type: application/json' \ -d '{ "modality": "text", "input": {"prompt": "Generate a summary"}, "organization_id": "<org-id>", "idempotency_key": "client-request-abc-123" }'""",
        Curl(),
        is_a_job,
        is_repeatable=True,
    ),
    Sample(
        "001-curl-estimate",
        r"""curl -X POST https://gofabric.dev/v1/providers/estimate \ -H 'content-type: application/json' \ -d '{ "modality": "text", "model": "gpt-4", "input": {"prompt": "Generate a summary"} }'""",
        Curl(),
        is_a_vendor_s_estimate,
    ),
    Sample("001-curl-events", "curl -N https://gofabric.dev/v1/jobs/<job-id>/events", Curl(), are_a_job_s_events),
)

SAMPLES: Final = (*TYPESCRIPT, *PYTHON, *RUST, *CURL)
