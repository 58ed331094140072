"""The one table of what exists over HTTP and who may call it: method and path -> scope, and whether the call is audited.

The gate lets nothing through that has no line here, and app.py refuses to build a router one of whose routes has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from router.principals import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line of the table. In `path` {name} stands for one segment, ** for all the rest."""

    method: str
    path: str
    scope: Scope | None = None  # None: any good key will do
    asks_for_key: bool = True
    takes_files: bool = False  # its body is bounded by asset_bytes
    may_be_signed: bool = False  # a signature in the query stands for the key; the route checks it
    action: str | None = None  # the name under which the audit log has it; None: it has not


@dataclass(frozen=True, slots=True)
class Place:
    """What the table says of one path: a rule for each method, and the path's parameters."""

    rules: Mapping[str, Rule]
    params: Mapping[str, str]


def _open(method: str, *paths: str) -> Iterator[Rule]:
    for path in paths:
        yield Rule(method=method, path=path, asks_for_key=False)


def _any_key(method: str, *paths: str) -> Iterator[Rule]:
    for path in paths:
        yield Rule(method=method, path=path)


def _scoped(scope: Scope, method: str, *paths: str) -> Iterator[Rule]:
    for path in paths:
        yield Rule(method=method, path=path, scope=scope)


def _audited(scope: Scope, action: str, method: str, *paths: str) -> Iterator[Rule]:
    for path in paths:
        yield Rule(method=method, path=path, scope=scope, action=action)


_ORG: Final = "/v1/organizations/{org}"

TABLE: Final = (
    *_open("GET", "/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/assets/**"),
    *_open("HEAD", "/openapi.json", "/docs/assets/**"),
    *_open("POST", "/v1/providers/estimate"),
    *_any_key("GET", "/v1/health", "/v1/system/status", "/v1/system/info"),
    *_any_key("GET", "/v1/nodes", "/v1/nodes/{node_id}", "/v1/providers"),
    *_scoped(Scope.PROVIDERS_EXECUTE, "POST", "/v1/providers/route"),
    *_scoped(Scope.PROVIDERS_EXECUTE, "POST", "/v1/providers/execute", "/v1/providers/execute/stream"),
    # Jobs and their events. Creating one is not audited: the job itself is the record.
    *_scoped(Scope.JOBS_WRITE, "POST", "/v1/jobs"),
    *_scoped(Scope.JOBS_READ, "GET", "/v1/jobs", "/v1/jobs/{job_id}", "/v1/jobs/{job_id}/usage"),
    *_scoped(Scope.JOBS_READ, "GET", "/v1/jobs/{job_id}/explain", "/v1/jobs/{job_id}/events"),
    *_scoped(Scope.JOBS_READ, "GET", "/v1/workflow-runs/{run_id}/events", "/v1/events/stream"),
    *_audited(Scope.JOBS_WRITE, "job.cancel", "POST", "/v1/jobs/{job_id}/cancel"),
    *_scoped(Scope.JOBS_READ, "GET", "/v1/jobs/{job_id}/deliveries"),
    *_audited(Scope.JOBS_WRITE, "job.redeliver", "POST", "/v1/jobs/{job_id}/deliveries/{delivery_id}/redeliver"),
    # API keys and the audit log.
    *_scoped(Scope.KEYS_READ, "GET", "/v1/api-keys", "/v1/api-keys/{key_id}"),
    *_audited(Scope.KEYS_WRITE, "key.create", "POST", "/v1/api-keys"),
    *_audited(Scope.KEYS_WRITE, "key.delete", "DELETE", "/v1/api-keys/{key_id}"),
    *_audited(Scope.KEYS_WRITE, "key.disable", "POST", "/v1/api-keys/{key_id}/disable"),
    *_audited(Scope.KEYS_WRITE, "key.rotate", "POST", "/v1/api-keys/{key_id}/rotate"),
    *_scoped(Scope.AUDIT_READ, "GET", "/v1/audit-logs", f"{_ORG}/audit-logs"),
    # Webhooks.
    *_scoped(Scope.WEBHOOKS_READ, "GET", f"{_ORG}/webhooks", "/v1/webhooks", "/v1/webhooks/{webhook_id}"),
    *_scoped(Scope.WEBHOOKS_READ, "GET", "/v1/webhooks/{webhook_id}/deliveries"),
    *_audited(Scope.WEBHOOKS_WRITE, "webhook.create", "POST", f"{_ORG}/webhooks", "/v1/webhooks"),
    *_audited(Scope.WEBHOOKS_WRITE, "webhook.update", "PATCH", "/v1/webhooks/{webhook_id}"),
    *_audited(Scope.WEBHOOKS_WRITE, "webhook.delete", "DELETE", "/v1/webhooks/{webhook_id}"),
    *_audited(
        Scope.WEBHOOKS_WRITE,
        "webhook.redeliver",
        "POST",
        "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    ),
    *_audited(Scope.WEBHOOKS_WRITE, "webhook_secret.rotate", "POST", f"{_ORG}/webhook-secret/rotate"),
    *_audited(Scope.WEBHOOKS_WRITE, "webhook.rotate_secret", "POST", "/v1/webhooks/{webhook_id}/rotate-secret"),
    # Assets. A signed URL is its own key: the route checks the signature.
    Rule(method="POST", path="/v1/assets", scope=Scope.ASSETS_WRITE, takes_files=True),
    *_scoped(Scope.ASSETS_READ, "GET", "/v1/assets"),
    Rule(method="GET", path="/v1/assets/{asset_id}", scope=Scope.ASSETS_READ, may_be_signed=True),
    Rule(method="HEAD", path="/v1/assets/{asset_id}", scope=Scope.ASSETS_READ, may_be_signed=True),
    *_scoped(Scope.ASSETS_READ, "POST", "/v1/assets/{asset_id}/signed-url"),
    *_audited(Scope.ASSETS_WRITE, "asset.delete", "DELETE", "/v1/assets/{asset_id}"),
    # Vendors' secrets, usage, budget.
    *_scoped(Scope.SECRETS_READ, "GET", f"{_ORG}/secrets"),
    *_audited(Scope.SECRETS_WRITE, "secret.set", "POST", f"{_ORG}/secrets"),
    *_audited(Scope.SECRETS_WRITE, "secret.delete", "DELETE", f"{_ORG}/secrets/{{name}}"),
    *_scoped(Scope.USAGE_READ, "GET", f"{_ORG}/usage", f"{_ORG}/usage/records", f"{_ORG}/usage/daily"),
    *_scoped(Scope.USAGE_READ, "GET", f"{_ORG}/usage/spending", f"{_ORG}/budget"),
    *_audited(Scope.BUDGET_WRITE, "budget.set", "PUT", f"{_ORG}/budget"),
    # The OpenAI dialect: direct calls.
    *_any_key("GET", "/v1/models", "/v1/models/**"),
    *_scoped(Scope.PROVIDERS_EXECUTE, "POST", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
    *_scoped(Scope.PROVIDERS_EXECUTE, "POST", "/v1/images/generations"),
    Rule(method="POST", path="/v1/audio/transcriptions", scope=Scope.PROVIDERS_EXECUTE, takes_files=True),
    Rule(method="POST", path="/v1/audio/translations", scope=Scope.PROVIDERS_EXECUTE, takes_files=True),
    # The FairStack dialect: the same jobs.
    *_scoped(Scope.JOBS_WRITE, "POST", "/fairstack/v1/generations/{modality}"),
    *_scoped(Scope.JOBS_READ, "GET", "/fairstack/v1/jobs", "/fairstack/v1/jobs/{job_id}"),
    *_audited(Scope.JOBS_WRITE, "job.cancel", "POST", "/fairstack/v1/jobs/{job_id}/cancel"),
)


# ---- finding the line of a request ----


@dataclass(slots=True)
class _Segment:
    """A tree of path segments: a request costs one step for each of its segments, whatever the table's length."""

    literal: dict[str, "_Segment"] = field(default_factory=dict)
    any: "_Segment | None" = None
    rest: dict[str, Rule] = field(default_factory=dict)  # of ** here
    rules: dict[str, Rule] = field(default_factory=dict)

    def add(self, segments: Sequence[str], rule: Rule) -> None:
        if not segments:
            assert rule.method not in self.rules, f"{rule.method} {rule.path} has two lines: this is a bug"
            self.rules[rule.method] = rule
        elif segments == ["**"]:
            self.rest[rule.method] = rule
        elif segments[0].startswith("{"):
            self.any = self.any or _Segment()
            self.any.add(segments[1:], rule)
        else:
            self.literal.setdefault(segments[0], _Segment()).add(segments[1:], rule)

    def find(self, segments: Sequence[str]) -> tuple[dict[str, Rule], list[str]] | None:
        """The rules of a path, and what its parameters are; a literal segment goes before a parameter."""
        if not segments:
            return (self.rules, []) if self.rules else None
        first, rest = segments[0], segments[1:]
        if first in self.literal and (found := self.literal[first].find(rest)) is not None:
            return found
        if first and self.any is not None and (found := self.any.find(rest)) is not None:
            return found[0], [first, *found[1]]
        return (self.rest, []) if self.rest else None


class Access:
    """The table, made ready to be asked."""

    def __init__(self, table: Sequence[Rule] = TABLE) -> None:
        self._root = _Segment()
        for rule in table:
            self._root.add(_segments(rule.path), rule)

    def place(self, path: str) -> Place | None:
        """None: there is no such path."""
        found = self._root.find(_segments(path))
        if found is None:
            return None
        rules, values = found
        names = [name[1:-1] for name in _segments(next(iter(rules.values())).path) if name.startswith("{")]
        return Place(rules, dict(zip(names, values, strict=True)))

    def check(self, routers: Sequence[APIRouter]) -> None:
        """Every route has its line: one that is added without is found when the router is built, not by a caller."""
        for router in routers:
            for route in router.routes:
                assert isinstance(route, APIRoute), f"{route} is no route of this API: this is a bug"
                place = self.place(route.path)
                for method in route.methods or ():
                    assert method in (place.rules if place else {}), (
                        f"{method} {route.path} has no line in router/api/access.py: add who may call it: this is a bug"
                    )


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]
