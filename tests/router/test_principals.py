"""What a key's grants come to, and whose things its holder may ask for."""

import pytest

from protos.errors import Forbidden, InputInvalid
from protos.types import DEFAULT_ORGANIZATION, OrganizationId
from router.principals import (
    ALL,
    ANONYMOUS,
    DEFAULT_GRANTS,
    DEVELOPER,
    GRANTS,
    Principal,
    Scope,
    organization_named,
    scopes_of,
)

ACME, OTHER = OrganizationId("acme"), OrganizationId("other")
MEMBER = Principal(name="x", key_id="key_1", organization_id=ACME, scopes=frozenset({Scope.JOBS_READ}))


def test_every_scope_can_be_given_by_its_name() -> None:
    for scope in Scope:
        assert scope in GRANTS[scope.value]


def test_a_star_gives_both_of_a_kind() -> None:
    assert scopes_of(["secrets:*"]) == {Scope.SECRETS_READ, Scope.SECRETS_WRITE}
    assert scopes_of(["jobs:*", "keys:read"]) == {Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.KEYS_READ}


def test_admin_gives_all() -> None:
    assert scopes_of(["admin"]) == ALL


def test_no_grant_gives_nothing() -> None:
    assert scopes_of([]) == frozenset()


def test_an_unknown_grant_is_named_and_so_are_those_there_are() -> None:
    with pytest.raises(InputInvalid, match=r"scopes: has 'jobs:fly', 'x': there are admin, .*workflow\.run"):
        scopes_of(["jobs:fly", "jobs:read", "x"])


def test_the_default_gives_no_rights_money_or_secrets_away() -> None:
    risky = ("keys:", "secrets:", "budget:", "audit:", "admin")
    assert not [scope for scope in scopes_of(DEFAULT_GRANTS) if scope.startswith(risky)]


def test_a_lacking_scope_is_named() -> None:
    with pytest.raises(Forbidden, match="lacks the scope jobs:write"):
        MEMBER.require(Scope.JOBS_WRITE)


def test_a_member_acts_for_its_own_organization_alone() -> None:
    assert MEMBER.act_for(None) == MEMBER.act_for(ACME) == MEMBER.reach(None) == MEMBER.reach(ACME) == ACME
    for ask in (MEMBER.act_for, MEMBER.reach):
        with pytest.raises(Forbidden, match="belongs to organization acme, the request names other"):
            ask(OTHER)


def test_whoever_has_no_organization_acts_for_any_and_finds_everything() -> None:
    assert (DEVELOPER.act_for(None), DEVELOPER.act_for(OTHER)) == (DEFAULT_ORGANIZATION, OTHER)
    assert (DEVELOPER.reach(None), DEVELOPER.reach(OTHER)) == (None, OTHER)


def test_nobody_s_organization_is_nobody_s() -> None:
    assert ANONYMOUS.reach(None) not in {None, DEFAULT_ORGANIZATION}
    assert not ANONYMOUS.scopes


def test_the_whole_box_is_not_an_organization_s_to_run() -> None:
    with pytest.raises(Forbidden, match="concerns all"):
        Principal(name="x", organization_id=ACME).require_operator()
    DEVELOPER.require_operator()


@pytest.mark.parametrize("name", ["", "a b", "*", "x" * 65, "a/b", "a\n"])
def test_a_name_that_is_no_organization_s_is_refused(name: str) -> None:
    with pytest.raises(InputInvalid, match="organization_id"):
        organization_named(name)
