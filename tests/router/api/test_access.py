"""The table of who may call what: complete, without stale lines, and agreed with the routes about every path."""

import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st

from router.api.access import TABLE, Access, Rule
from router.app import ROUTERS
from router.principals import ALL, Scope

FRAMEWORK = {"/docs", "/docs/assets/**", "/openapi.json"}  # not of a router of ours
ACCESS = Access()


def routes() -> list[tuple[str, str]]:
    return [(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods]  # type: ignore[attr-defined]  # APIRoute


def rule_of(method: str, path: str) -> Rule | None:
    place = ACCESS.place(path)
    return place.rules.get(method) if place else None


def test_every_route_has_its_line() -> None:
    ACCESS.check(ROUTERS)
    assert [route for route in routes() if rule_of(*route) is None] == []


def test_a_route_without_a_line_stops_the_start() -> None:
    router = APIRouter()
    router.add_api_route("/v1/new", lambda: None, methods=["PUT"])
    with pytest.raises(AssertionError, match=r"PUT /v1/new has no line in router/api/access\.py"):
        ACCESS.check([router])


def test_every_line_has_its_route() -> None:
    reached = {id(rule_of(*route)) for route in routes()}
    assert [rule for rule in TABLE if id(rule) not in reached and rule.path not in FRAMEWORK] == []


def test_whatever_changes_rights_money_secrets_or_deletes_is_audited() -> None:
    kinds = ("/api-keys", "/webhook", "/secrets", "/budget")
    changes = [
        rule
        for rule in TABLE
        if rule.method == "DELETE"
        or rule.path.endswith("/cancel")
        or (rule.method != "GET" and any(kind in rule.path for kind in kinds))
    ]
    assert [rule for rule in changes if rule.action is None] == []


def test_only_what_is_nobody_s_asks_for_no_scope() -> None:
    free = {rule.path for rule in TABLE if rule.asks_for_key and rule.scope is None}
    assert free <= {
        *("/v1/health", "/v1/system/status", "/v1/system/info", "/v1/nodes", "/v1/nodes/{node_id}", "/v1/providers"),
        *("/v1/models", "/v1/models/**"),
    }


def test_every_scope_is_asked_for_somewhere() -> None:
    assert {rule.scope for rule in TABLE} - {None} == ALL - {Scope.ADMIN}


@pytest.mark.parametrize("path", ["/v1/jobs/", "/v1//jobs", "/v1/jobs\n", "/V1/jobs", "/v1/jobs/a/b/c", "", "v1/jobs"])
def test_a_path_that_is_not_quite_one_is_none(path: str) -> None:
    assert ACCESS.place(path) is None


def test_a_place_has_its_parameters() -> None:
    place = ACCESS.place("/v1/webhooks/w1/deliveries/d1/redeliver")
    assert place is not None
    assert dict(place.params) == {"webhook_id": "w1", "delivery_id": "d1"}


@given(
    st.lists(st.sampled_from(["v1", "jobs", "api-keys", "organizations", "x", "", "events", "stream", "docs", "**"]))
)
def test_no_path_breaks_it(segments: list[str]) -> None:
    ACCESS.place("/" + "/".join(segments))


@pytest.mark.parametrize(("method", "path"), routes())
def test_the_route_that_answers_is_the_one_that_was_checked(method: str, path: str) -> None:
    """The gate prefers a literal segment, the framework the route that was added first: they must not differ."""
    concrete = "/".join("x" if segment.startswith("{") else segment for segment in path.split("/"))
    scope = {"type": "http", "method": method, "path": concrete, "root_path": "", "headers": []}
    for router in ROUTERS:
        for route in router.routes:
            matched, _ = route.matches(scope)
            if matched.name == "FULL":
                assert rule_of(method, concrete) is rule_of(method, route.path)  # type: ignore[attr-defined]  # APIRoute
                return
    pytest.fail(f"nothing answers {method} {concrete}")
