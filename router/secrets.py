"""The secrets of organizations in use: sealed on the way in, opened for the vendor call that needs one, and nowhere else.

Not about their table (store/secrets.py) nor the sealing itself (vault.py).
"""

import logging
from collections.abc import Sequence

from protos.types import OrganizationId
from providers.keys import VARIABLES, KeyOf
from router.store import secrets as table
from router.store.base import Records
from router.store.secrets import Secret
from router.vault import SealBroken, Vault

log = logging.getLogger(__name__)


class Secrets:
    """Opened after the store. Keeps the sealed text of each secret in memory, as only this router writes them: what a
    vendor call asks for costs no look into the database."""

    def __init__(self, records: Records, vault: Vault, otherwise: KeyOf) -> None:
        """otherwise: the keys of the router's own settings, for organizations that have none."""
        self._records, self._vault, self._otherwise = records, vault, otherwise
        self._sealed: dict[tuple[str, str], str] = {}

    async def open(self) -> None:
        """Renews the seals under the newest key. One that cannot be opened stays: the call that needs it will say so."""
        await self._records.change(table.renew(self._renewed))
        self._sealed = dict(await self._records.look(table.all_sealed))

    async def put(self, organization_id: OrganizationId, name: str, value: str) -> tuple[Secret, bool]:
        """The secret as it may be told, and whether it is new. Raises QuotaExceeded."""
        sealed = self._vault.seal(value)
        kept = await self._records.change(table.put(organization_id, name, sealed))
        self._sealed[(organization_id, name)] = sealed
        return kept

    async def remove(self, organization_id: OrganizationId, name: str) -> None:
        """Raises NotFound."""
        await self._records.change(table.remove(organization_id, name))
        self._sealed.pop((organization_id, name), None)

    async def listed(self, organization_id: OrganizationId) -> Sequence[Secret]:
        return await self._records.look(lambda connection: table.listed(connection, organization_id))

    def key_of(self, organization_id: OrganizationId, variable: str) -> str | None:
        """The organization's own, else the settings'. A KeyOf."""
        sealed = self._sealed.get((organization_id, variable))
        return self._otherwise(organization_id, variable) if sealed is None else self._vault.open(sealed)

    def lacking(self, organization_id: OrganizationId) -> frozenset[str]:
        """The variables of vendors' keys that neither it nor the settings have."""
        return frozenset(
            variable
            for variable in VARIABLES
            if (organization_id, variable) not in self._sealed and self._otherwise(organization_id, variable) is None
        )

    def _renewed(self, sealed: str) -> str:
        try:
            return self._vault.reseal(sealed)
        except SealBroken as error:
            log.warning("%s", error.message)
            return sealed

    def __repr__(self) -> str:
        return f"Secrets({len(self._sealed)} sealed)"
