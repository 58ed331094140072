"""Whose key a call is made with."""

import pytest

from protos.errors import VendorRefused
from protos.types import OrganizationId, ProviderId
from providers.keys import VendorKey, settings_keys
from providers.settings import ProviderSettings

ORGANIZATION = OrganizationId("org-1")


def test_without_secrets_everybody_has_the_key_of_the_settings() -> None:
    key_of = settings_keys(ProviderSettings(openai_api_key="sk-1", anthropic_api_key=""))
    assert key_of(ORGANIZATION, "OPENAI_API_KEY") == "sk-1"
    assert key_of(ORGANIZATION, "ANTHROPIC_API_KEY") is None
    assert key_of(ORGANIZATION, "ANOTHER") is None


def test_a_missing_key_names_the_variable_and_the_organization() -> None:
    key = VendorKey(ProviderId("openai"), "OPENAI_API_KEY", lambda _organization, _variable: None)
    with pytest.raises(VendorRefused, match="set OPENAI_API_KEY, or store it as a secret of organization org-1"):
        key.of(ORGANIZATION)


def test_a_server_s_own_key_is_fixed_and_may_be_none_at_all() -> None:
    key = VendorKey(ProviderId("vllm"), "X", lambda _organization, _variable: "sk-other", fixed="")
    assert key.of(ORGANIZATION) == ""
    assert "sk-other" not in repr(key)
