"""The API keys that this router takes, in memory: checking one costs a hash and a look into a dictionary.

A key is found by an HMAC-SHA256 of its secret, keyed with a file of the data directory. Secrets are 192 random bits, so
nothing slower is needed, and a stolen database alone lets nobody test guesses. Only this router writes the keys of its
database, so what it holds in memory is what is stored. Not about scopes (principals.py) nor routes (api/keys.py).
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sqlalchemy import Connection
from ulid import ULID

from protos.errors import (
    Conflict,
    FabricError,
    Forbidden,
    InputInvalid,
    Internal,
    NotFound,
    QuotaExceeded,
    Unauthorized,
)
from protos.types import OrganizationId
from router.key_file import secret_of
from router.principals import DEFAULT_GRANTS, DEVELOPER, GRANTS, Principal, Scope, administrator, scopes_of
from router.settings import RouterSettings, reachable_hosts
from router.store import keys as rows
from router.store.base import Records
from router.store.keys import EVERY_ORGANIZATION, ApiKey

Result = TypeVar("Result")

log = logging.getLogger(__name__)

KEYS_LIMIT: Final = 1000  # of one organization; each is held in memory
_PREFIX: Final = "fab_"
_SECRET_BYTES: Final = 24
_SHOWN_CHARS: Final = len(_PREFIX) + 8  # of a secret, to tell keys apart: 160 bits stay unknown
_NOTE_EVERY_S: Final = 10.0  # the uses of all keys are written in one statement


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key that is known, and whom it stands for."""

    key: ApiKey | None  # None: of the settings
    principal: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key to make. `grants` None: all that work needs, as far as its maker may do it."""

    name: str
    organization_id: OrganizationId  # EVERY_ORGANIZATION: all
    grants: tuple[str, ...] | None = None
    expires_at: float | None = None
    rate_per_s: float | None = None  # None: the settings' own; as is the next
    max_concurrent_jobs: int | None = None


class Keyring:
    """Made with the settings' keys alone; `open` adds those of the store."""

    def __init__(self, settings: RouterSettings, clock: Callable[[], float]) -> None:
        self._settings, self._clock = settings, clock
        self._secret = secrets.token_bytes(32)  # until `open` reads the one that the stored hashes were made with
        self._entries = self._of_settings()
        self._keys: dict[str, ApiKey] = {}
        self._used_at: dict[str, float] = {}
        self._changing = asyncio.Lock()
        self._store: Records | None = None
        self._noting: asyncio.Task[None] | None = None
        self.is_development = not reachable_hosts(settings) and not settings.api_keys

    # ---- its life ----

    async def open(self, store: Records) -> None:
        """Reads the stored keys. Raises Conflict for a secret file that others can read, InputInvalid when other
        machines can reach this router and there is no key to keep them out."""
        self._secret = await asyncio.to_thread(secret_of, self._settings.data_dir)
        self._store = store
        await self._reload()
        _check_reachable(self._settings, self.has_administrator)
        self.is_development = not self.has_administrator
        self._noting = asyncio.create_task(self._note_uses(), name="key-uses")

    async def close(self) -> None:
        if self._noting is not None:
            self._noting.cancel()
            await asyncio.wait({self._noting})
            await self._note()

    @property
    def has_administrator(self) -> bool:
        """Some key can make others for any organization: keys are asked for."""
        everywhere = (entry.principal for entry in self._entries.values() if self._wrong_with(entry) is None)
        return any(one.organization_id is None and Scope.ADMIN in one.scopes for one in everywhere)

    # ---- checking ----

    def check(self, authorization: str) -> Principal:
        """Whom an Authorization header stands for, also that of gRPC's metadata. Raises Unauthorized.

        In development mode every caller is let in, but a stored key still stands for its own organization and scopes.
        """
        secret = _bearer(authorization)
        entry = self._entries.get(self._digest(secret)) if secret else None
        if entry is None:
            if self.is_development:
                return DEVELOPER
            raise Unauthorized(_UNKNOWN if secret else _MISSING)
        if (wrong := self._wrong_with(entry)) is not None:
            raise Unauthorized(wrong)
        if entry.key is not None:
            self._used_at[entry.key.id] = self._clock()
        return entry.principal

    def _wrong_with(self, entry: _Entry) -> str | None:
        if entry.key is None:
            return None
        if entry.key.disabled:
            return f"the key {entry.key.id} is disabled: use another"
        if entry.key.expires_at is not None and entry.key.expires_at <= self._clock():
            return f"the key {entry.key.id} has expired: use another"
        return None

    def _digest(self, secret: str) -> str:
        return hmac.new(self._secret, secret.encode(errors="replace"), hashlib.sha256).hexdigest()

    # ---- reading ----

    def listed(self, reach: OrganizationId | None) -> Sequence[ApiKey]:
        """Newest first; of all organizations when `reach` is None."""
        return [self._as_used(key) for key in reversed(self._keys.values()) if reach in (None, key.organization_id)]

    def one(self, key_id: str, reach: OrganizationId | None) -> ApiKey:
        """Raises NotFound, also for a key out of reach."""
        key = self._keys.get(key_id)
        if key is None or reach not in (None, key.organization_id):
            raise NotFound(f"there is no key {key_id[:80]!r}: GET /v1/api-keys lists yours")
        return self._as_used(key)

    def _as_used(self, key: ApiKey) -> ApiKey:
        used_at = self._used_at.get(key.id)
        return key if used_at is None else replace(key, last_used_at=used_at)

    # ---- changing ----

    async def create(self, asked: NewKey, by: Principal) -> tuple[ApiKey, str]:
        """The key and its secret, which nobody can read again. Raises InputInvalid for an unknown grant, Forbidden when
        the key could do more than its maker, QuotaExceeded."""
        secret = _new_secret()
        key = _key_of(asked, by, secret[:_SHOWN_CHARS], self._clock())
        _check_no_more(key, by)
        digest = self._digest(secret)

        def add(connection: Connection, _now: float) -> None:
            if rows.count(connection, key.organization_id) >= KEYS_LIMIT:
                raise QuotaExceeded(
                    f"organization {key.organization_id} has {KEYS_LIMIT} keys, its limit: delete some that are not used"
                )
            rows.add(connection, key, digest)

        await self._change(add)
        return key, secret

    async def disable(self, key_id: str, reach: OrganizationId | None, by: Principal) -> ApiKey:
        """It stops at once, and for good. Raises NotFound, Forbidden."""
        _check_no_more(self.one(key_id, reach), by)
        await self._change(lambda connection, _now: rows.disable(connection, key_id))
        return self.one(key_id, reach)

    async def rotate(self, key_id: str, reach: OrganizationId | None, by: Principal) -> tuple[ApiKey, str]:
        """The key with a new secret; the old one stops at once. Raises NotFound, Forbidden, and Conflict for one that
        is disabled."""
        key = self.one(key_id, reach)
        _check_no_more(key, by)
        if key.disabled:
            raise Conflict(f"the key {key_id} is disabled, which a new secret does not change: create another")
        secret = _new_secret()
        digest, prefix = self._digest(secret), secret[:_SHOWN_CHARS]
        await self._change(lambda connection, _now: rows.replace_secret(connection, key_id, digest, prefix))
        return self.one(key_id, reach), secret

    async def delete(self, key_id: str, reach: OrganizationId | None, by: Principal) -> ApiKey:
        """Raises NotFound, Forbidden."""
        key = self.one(key_id, reach)
        _check_no_more(key, by)
        await self._change(lambda connection, _now: rows.remove(connection, key_id))
        return key

    async def _change(self, make: Callable[[Connection, float], Result]) -> Result:
        async with self._changing:  # one at a time, so that the last read is of the last write
            result = await self._records.change(make)
            await self._reload()
            return result

    async def _reload(self) -> None:
        stored = await self._records.look(rows.every)
        self._keys = {key.id: key for _, key in stored}
        self._entries = self._of_settings() | {digest: _Entry(key, self._principal(key)) for digest, key in stored}

    @property
    def _records(self) -> Records:
        if self._store is None:
            raise Internal("the keyring is not open: no key can be changed")
        return self._store

    def _of_settings(self) -> dict[str, _Entry]:
        given = enumerate(self._settings.api_keys)
        return {self._digest(key): _Entry(None, administrator(f"settings:{index}")) for index, key in given}

    def _principal(self, key: ApiKey) -> Principal:
        settings = self._settings
        return Principal(
            name=key.name,
            key_id=key.id,
            organization_id=None if key.organization_id == EVERY_ORGANIZATION else key.organization_id,
            scopes=scopes_of(key.scopes),
            rate_per_s=settings.key_rate_per_s if key.rate_per_s is None else key.rate_per_s,
            max_concurrent_jobs=(
                settings.key_jobs_limit if key.max_concurrent_jobs is None else key.max_concurrent_jobs
            ),
        )

    # ---- when each was used ----

    async def _note_uses(self) -> None:
        while True:
            await asyncio.sleep(_NOTE_EVERY_S)
            await self._note()

    async def _note(self) -> None:
        used_at, self._used_at = self._used_at, {}
        if not used_at:
            return
        for key_id in used_at.keys() & self._keys.keys():
            self._keys[key_id] = replace(self._keys[key_id], last_used_at=used_at[key_id])
        try:
            await self._records.change(lambda connection, _now: rows.note_use(connection, used_at))
        except FabricError:  # only when a key was last used is lost
            log.exception("the last uses of %d keys could not be written", len(used_at))


_MISSING: Final = "a key is missing: send the header Authorization: Bearer <key>"
_UNKNOWN: Final = "the key is not known here: check it, or have another made with POST /v1/api-keys"


def _bearer(authorization: str) -> str:
    """The secret; empty when there is none."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _new_secret() -> str:
    return _PREFIX + secrets.token_hex(_SECRET_BYTES)


def _key_of(asked: NewKey, by: Principal, prefix: str, now: float) -> ApiKey:
    """Raises InputInvalid."""
    grants = asked.grants
    if grants is None:
        grants = tuple(grant for grant in DEFAULT_GRANTS if GRANTS[grant] <= by.scopes)
    scopes_of(grants)
    return ApiKey(
        id=f"key_{ULID.from_timestamp(now)}",
        organization_id=asked.organization_id,
        name=asked.name,
        prefix=prefix,
        scopes=grants,
        expires_at=asked.expires_at,
        created_at=now,
        rate_per_s=asked.rate_per_s,
        max_concurrent_jobs=asked.max_concurrent_jobs,
    )


def _check_no_more(key: ApiKey, by: Principal) -> None:
    """Whoever makes or changes a key holds all that it can do: a secret handed out gives no rights away."""
    more = scopes_of(key.scopes) - by.scopes
    if more:
        raise Forbidden(
            f"the key {key.name!r} may {', '.join(sorted(more))}, which yours may not: use one that may, or ask for less"
        )
    if (key.rate_per_s, key.max_concurrent_jobs) != (None, None):
        by.require_operator()


def _check_reachable(settings: RouterSettings, has_administrator: bool) -> None:
    wrong = [] if has_administrator else reachable_hosts(settings)
    if wrong:
        advice = "set FABRIC_API_KEYS, make one with `fabric-node keys create`, or use 127.0.0.1"
        raise InputInvalid.of(
            [
                (name, f"is {host!r}, which other machines can reach, and there are no keys: {advice}")
                for name, host in wrong
            ]
        )
