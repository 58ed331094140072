"""The vendors' keys: whose is used for a call, and how to speak of one without showing it.

Not about where they are kept (the settings, or an organization's secrets in the router).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protos.errors import VendorRefused
from protos.types import OrganizationId, ProviderId
from providers.settings import ProviderSettings

KeyOf = Callable[[OrganizationId, str], str | None]
"""(organization, variable such as OPENAI_API_KEY) -> the key to call that vendor with, or None."""

_LOOKS_LIKE_A_KEY: Final = re.compile(r"\b(sk|fab|gsk|pk|xai|hf)[-_][\w*.-]{6,}|Bearer\s+\S+", re.IGNORECASE)
_SAID_CHARS: Final = 300  # of what a vendor says, that go into a message


VARIABLES: Final = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")  # of keys that an organization may have of its own


def settings_keys(settings: ProviderSettings) -> KeyOf:
    """The keys of the settings, the same for every organization."""
    keys = dict(zip(VARIABLES, (settings.openai_api_key, settings.anthropic_api_key), strict=True))
    return lambda _, variable: keys.get(variable) or None


@dataclass(frozen=True, slots=True)
class VendorKey:
    """The key of one vendor. `fixed`: the same for everybody, of a server that the settings name; it may be empty."""

    vendor: ProviderId
    variable: str
    key_of: KeyOf = field(repr=False)
    fixed: str | None = field(default=None, repr=False)

    def of(self, organization_id: OrganizationId) -> str:
        """Raises VendorRefused where there is none."""
        key = self.key_of(organization_id, self.variable) if self.fixed is None else self.fixed
        if key is None:
            raise VendorRefused(
                f"there is no key for {self.vendor}: set {self.variable}, or store it as a secret of organization "
                f"{organization_id}"
            )
        return key


def sanitized(said: str, key: str = "") -> str:
    """What a vendor said, short, and without anything that is or looks like a key: some repeat it in their errors."""
    text = said.replace(key, "***") if key else said
    text = " ".join(_LOOKS_LIKE_A_KEY.sub("***", text).split())
    return text if len(text) <= _SAID_CHARS else text[: _SAID_CHARS - 3] + "..."
