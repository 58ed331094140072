"""Who asks, whose things they may touch, and what they may do with them. Pure.

Not about how a key is told from another (keyring.py), nor which route wants which scope (api/access.py).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protos.errors import Forbidden, InputInvalid
from protos.types import DEFAULT_ORGANIZATION, OrganizationId


class Scope(StrEnum):
    """What a key may do, within its organization. Any good key may read what belongs to nobody: providers, nodes, health."""

    JOBS_READ = "jobs:read"  # and their events
    JOBS_WRITE = "jobs:write"
    PROVIDERS_EXECUTE = "providers:execute"
    ASSETS_READ = "assets:read"
    ASSETS_WRITE = "assets:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    SECRETS_READ = "secrets:read"
    SECRETS_WRITE = "secrets:write"
    USAGE_READ = "usage:read"
    BUDGET_WRITE = "budget:write"
    AUDIT_READ = "audit:read"
    ADMIN = "admin"


ALL: Final = frozenset(Scope)
_KINDS: Final = ("assets", "jobs", "keys", "secrets", "webhooks")  # with a scope to read and one to write
_WORK: Final = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})

# What a key may be given, and what each means. The dotted ones are those of the platform's own documents, where a job is
# a workflow of one node.
GRANTS: Final[Mapping[str, frozenset[Scope]]] = {
    **{scope.value: frozenset({scope}) for scope in Scope if scope is not Scope.ADMIN},
    Scope.ADMIN.value: ALL,
    **{f"{kind}:*": frozenset(scope for scope in Scope if scope.startswith(f"{kind}:")) for kind in _KINDS},
    "workflow.run": _WORK,
    "job.create": _WORK,
}

# Of a key that is given none: all that work needs, nothing that gives rights, money or secrets away.
DEFAULT_GRANTS: Final = ("jobs:*", "providers:execute", "assets:*", "webhooks:*", "usage:read")


def scopes_of(grants: Sequence[str]) -> frozenset[Scope]:
    """What the grants of a key come to. Raises InputInvalid, which lists those there are."""
    unknown = [grant for grant in grants if grant not in GRANTS]
    if unknown:
        shown = ", ".join(repr(grant[:80]) for grant in unknown)
        raise InputInvalid.at("scopes", f"has {shown}: there are {', '.join(sorted(GRANTS))}")
    return _union(GRANTS[grant] for grant in grants)


def _union(scopes: Iterable[frozenset[Scope]]) -> frozenset[Scope]:
    return frozenset().union(*scopes)


_ORGANIZATION: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def organization_named(given: str) -> OrganizationId:
    """Raises InputInvalid."""
    if not _ORGANIZATION.fullmatch(given):
        raise InputInvalid.at("organization_id", f"is {given[:80]!r}: use 1 to 64 letters, digits, or any of _ . : -")
    return OrganizationId(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a request comes from."""

    name: str
    key_id: str | None = None  # None: no stored key, so nothing is counted against it
    organization_id: OrganizationId | None = None  # None: of all organizations
    scopes: frozenset[Scope] = ALL
    rate_per_s: float | None = None  # requests; None: as many as it likes
    max_concurrent_jobs: int | None = None  # pending or started; None: as the router's own bound

    def require(self, scope: Scope) -> None:
        """Raises Forbidden, which names the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"the key lacks the scope {scope.value}: use one that has it, or give it to a new key")

    def require_operator(self) -> None:
        """For what concerns the whole box, whose organizations' administrators have no say in it. Raises Forbidden."""
        self.require(Scope.ADMIN)
        if self.organization_id is not None:
            raise Forbidden(
                "the key is of one organization, this concerns all: use an administrator's key of all of them"
            )

    def act_for(self, asked: OrganizationId | None) -> OrganizationId:
        """Whose things the request is about: those of `asked`, else its own, else the default's. Raises Forbidden for
        another's."""
        if asked is None:
            return self.organization_id or DEFAULT_ORGANIZATION
        if not self.sees(asked):
            raise Forbidden(
                f"the key belongs to organization {self.organization_id}, the request names {asked}: leave "
                "organization_id out, or use a key of that organization"
            )
        return asked

    def reach(self, asked: OrganizationId | None) -> OrganizationId | None:
        """Whose single thing it may find by its id; None: anybody's. Raises Forbidden for another's."""
        return self.organization_id if asked is None else self.act_for(asked)

    def sees(self, organization_id: OrganizationId) -> bool:
        return self.organization_id in (None, organization_id)


# Development mode: whoever reaches the loopback address, without a key or with one that is not known here.
DEVELOPER: Final = Principal(name="development")

# A route that asks for no key, called without one. Its organization is nobody's.
ANONYMOUS: Final = Principal(name="anonymous", organization_id=OrganizationId("anonymous"), scopes=frozenset())


def administrator(name: str) -> Principal:
    """The holder of a key of the settings: all organizations, all scopes, no limits."""
    return Principal(name=name)
