"""Pages 002 and 003, "Python Platform SDK": the same samples twice; each page has lost other line ends than the other."""

from collections.abc import Iterator
from typing import Final

from clients.checks import (
    are_some_with,
    are_whole_events,
    equals,
    has,
    has_all,
    is_a_job,
    is_a_job_s_usage,
    is_a_local_estimate,
    is_a_page,
    is_done,
)
from clients.sample import Check, Python, Sample

MAKES_A_KEY: Final = 'key = fabric.create_api_key("ci-pipeline", org["id"])'
SETS_A_SECRET: Final = 'fabric.set_secret("OPENAI_API_KEY", "sk-...")'
DELETES_THE_SECRET: Final = 'fabric.delete_secret("OPENAI_API_KEY")'
MAKES_A_WEBHOOK: Final = 'webhook = fabric.create_webhook(org["id"], "https://example.com/hooks", ["job.*"])'


def both(
    name: str, how: Python, check: Check, text: str, second: str = "", *, is_repeatable: bool = False
) -> Iterator[Sample]:
    """Of both pages. second: as the second one prints it, where that differs."""
    yield Sample(f"002-{name}", text, how, check, is_repeatable)
    yield Sample(f"003-{name}", second or text, how, check, is_repeatable)


CONSTRUCTORS: Final = (
    *both(
        "constructor",
        Python(then="fabric.health_check()"),
        has(status="ok"),
        "fabric = FabricClient()",
    ),
    *both(
        "constructor-of-a-server",
        Python(then="[fabric.health_check()['status'], fabric.organization_id]"),
        equals(["ok", "org-uuid"]),
        'fabric = FabricClient( base_url="https://fabric.example.com", api_key="fab_live_abc123", organization_id="org-uuid",)',
        """fabric = FabricClient(
base_url="https://fabric.example.com",
api_key="fab_live_abc123",
organization_id="org-uuid",
)""",
    ),
    *both(
        "health",
        Python(laid_out="with FabricClient() as fabric:\n    status = fabric.health_check()\n    print(status)"),
        lambda found: bool(found[0][0]["status"] == "ok"),
        "with FabricClient() as fabric: status = fabric.health_check() print(status)",
        "with FabricClient() as fabric:\nstatus = fabric.health_check()\nprint(status)",
    ),
    *both(
        "signature",
        Python(
            instead="""FabricClient(
base_url=base_url,
api_key=None,
principal_id="somebody",
organization_id="00000000-0000-0000-0000-000000000010",
timeout=30.0,
).list_jobs()"""
        ),
        is_a_page,
        'FabricClient( base_url: str = "http://localhost:3001", api_key: str | None = None, principal_id: str | None = None, organization_id: str = "00000000-0000-0000-0000-000000000010", timeout: float = 30.0,)',
        """FabricClient(
base_url: str = "https://gofabric.dev",
api_key: str | None = None,
principal_id: str | None = None,
organization_id: str = "00000000-0000-0000-0000-000000000010",
timeout: float = 30.0,
)""",
    ),
    *both(
        "close",
        Python(given="fabric = FabricClient()", then="fabric._client.is_closed"),
        equals(True),
        "fabric.close()",
    ),
    *both(
        "context",
        Python(laid_out="with FabricClient() as fabric:\n    ...", then="fabric._client.is_closed"),
        equals(True),
        "with FabricClient() as fabric: ...",
        "with FabricClient() as fabric:\n...",
    ),
)

JOBS: Final = (
    *both(
        "create_job",
        Python(),
        is_a_job,
        'job = fabric.create_job( modality="text", input={"prompt": "Summarize this article"}, idempotency_key="unique-key-123",)',
        """job = fabric.create_job(
modality="text",
input={"prompt": "Summarize this article"},
idempotency_key="unique-key-123",
)""",
        is_repeatable=True,
    ),
    *both("get_job", Python(), is_done, 'job = fabric.get_job(job["id"])'),
    *both("list_jobs", Python(), is_a_page, "jobs = fabric.list_jobs(limit=20, cursor=None)"),
    *both("get_job_usage", Python(), is_a_job_s_usage, 'usage = fabric.get_job_usage(job["id"])'),
)

KEYS: Final = (
    *both(
        "create_api_key",
        Python(),
        lambda found: bool(found["key"].startswith("fab_") and found["scopes"] == ["workflow.run"]),
        'key = fabric.create_api_key("ci-pipeline", org["id"], scopes=["workflow.run"])',
    ),
    *both(
        "list_api_keys",
        Python(given=MAKES_A_KEY, then='[key["id"] in [each["id"] for each in keys], "key" in keys[0]]'),
        equals([True, False]),
        "keys = fabric.list_api_keys()",
    ),
    *both("rotate_api_key", Python(given=MAKES_A_KEY), has_all("id", "key"), 'fabric.rotate_api_key(key["id"])'),
    *both(
        "disable_api_key",
        Python(given=MAKES_A_KEY, then='fabric.get_api_key(key["id"])'),
        has(disabled=True),
        'fabric.disable_api_key(key["id"])',
    ),
    *both(
        "delete_api_key",
        Python(given=MAKES_A_KEY, then='key["id"] in [each["id"] for each in fabric.list_api_keys()]'),
        equals(False),
        'fabric.delete_api_key(key["id"])',
    ),
)

SECRETS: Final = (
    *both(
        "set_secret",
        Python(then=f"names = fabric.list_secrets()\n{DELETES_THE_SECRET}\nnames"),
        equals(["OPENAI_API_KEY"]),
        'fabric.set_secret("OPENAI_API_KEY", "sk-...")',
    ),
    *both(
        "list_secrets",
        Python(given=SETS_A_SECRET, then=f"{DELETES_THE_SECRET}\nnames"),
        equals(["OPENAI_API_KEY"]),
        'names = fabric.list_secrets() # ["OPENAI_API_KEY"]',
    ),
    *both(
        "delete_secret",
        Python(given=SETS_A_SECRET, then="fabric.list_secrets()"),
        equals([]),
        'fabric.delete_secret("OPENAI_API_KEY")',
    ),
)

PROVIDERS: Final = (
    *both(
        "providers",
        Python(),
        lambda found: bool(
            {"text", "embedding"} <= {m for each in found if each["id"] == "openai" for m in each["modalities"]}
        ),
        "providers = fabric.providers()",
    ),
    *both(
        "execute_provider",
        Python(),
        lambda found: bool(found["provider_id"] == "openai" and found["output"]["text"] == "Hello"),
        'result = fabric.execute_provider( modality="text", input={"prompt": "Hello"}, model="gpt-4o",)',
        """result = fabric.execute_provider(
modality="text",
input={"prompt": "Hello"},
model="gpt-4o",
)""",
    ),
    *both(
        "estimate_cost",
        Python(),
        is_a_local_estimate,
        'estimate = fabric.estimate_cost(modality="text", input={"prompt": "Hello"})',
    ),
)

EVENTS: Final = (
    *both(
        "stream_events",
        Python(prints=3, laid_out='for event in fabric.stream_events():\n    print(event["kind"], event.get("data"))'),
        lambda found: {kind for kind, _ in found} <= {"job.created", "job.started", "job.completed"},
        'for event in fabric.stream_events(): print(event["kind"], event.get("data"))',
        'for event in fabric.stream_events():\nprint(event["kind"], event.get("data"))',
    ),
    *both(
        "stream_run_events",
        Python(
            laid_out='for event in fabric.stream_run_events(run_id):\n    if event["kind"] == "workflow.run.completed":\n        break',
            then='event["kind"]',
        ),
        equals("job.completed"),  # the last that this loop sees: the run of a single job is that job
        'for event in fabric.stream_run_events(run_id): if event["kind"] == "workflow.run.completed": break',
        'for event in fabric.stream_run_events(run_id):\nif event["kind"] == "workflow.run.completed":\nbreak',
    ),
    *both(
        "stream_job_events",
        Python(laid_out="for event in fabric.stream_job_events(job_id):\n    print(event)"),
        are_whole_events,
        "for event in fabric.stream_job_events(job_id): print(event)",
        "for event in fabric.stream_job_events(job_id):\nprint(event)",
    ),
)

WEBHOOKS: Final = (
    *both(
        "create_webhook",
        Python(),
        lambda found: bool(found["active"] and found["secret"].startswith("whsec_") and found["secret"] != "whsec_..."),
        'webhook = fabric.create_webhook( org["id"], url="https://example.com/hooks", events=["workflow.run.completed", "workflow.run.failed"], secret="whsec_...",)',
        """webhook = fabric.create_webhook(
org["id"],
url="https://example.com/hooks",
events=["workflow.run.completed", "workflow.run.failed"],
secret="whsec_...",
)""",
    ),
    *both(
        "list_webhooks",
        Python(given=MAKES_A_WEBHOOK),
        are_some_with(url="https://example.com/hooks", active=True),
        'webhooks = fabric.list_webhooks(org["id"])',
    ),
    *both(
        "update_webhook",
        Python(given=MAKES_A_WEBHOOK),
        has(url="https://new.example.com/hooks"),
        'fabric.update_webhook(webhook["id"], url="https://new.example.com/hooks")',
    ),
    *both(
        "delete_webhook",
        Python(given=MAKES_A_WEBHOOK, then='webhook["id"] in [each["id"] for each in fabric.list_webhooks(org["id"])]'),
        equals(False),
        'fabric.delete_webhook(webhook["id"])',
    ),
)

USAGE: Final = (
    *both("get_org_usage", Python(), has(total_runs=1, output_tokens=3), 'usage = fabric.get_org_usage(org["id"])'),
    *both(
        "get_org_usage_records",
        Python(),
        are_some_with(provider_id="node", outcome="completed"),
        'records = fabric.get_org_usage_records(org["id"])',
    ),
    *both(
        "get_org_usage_daily",
        Python(),
        are_some_with(runs=1, cost_micro=0),
        'daily = fabric.get_org_usage_daily(org["id"])',
    ),
    *both(
        "get_org_audit_logs",
        Python(given=MAKES_A_WEBHOOK),
        are_some_with(action="webhook.create", outcome="success"),
        'org_logs = fabric.get_org_audit_logs(org["id"])',
    ),
    *both(
        "get_audit_logs",
        Python(given=MAKES_A_WEBHOOK),
        are_some_with(action="webhook.create", outcome="success"),
        "my_logs = fabric.get_audit_logs()",
    ),
)

SAMPLES: Final = (*CONSTRUCTORS, *JOBS, *KEYS, *SECRETS, *PROVIDERS, *EVENTS, *WEBHOOKS, *USAGE)
