"""Anthropic: text. Its wire is anthropic_wire.py, its models are in prices.toml."""

from typing import Final

from protos.types import ProviderId
from providers.anthropic_wire import KEY_VARIABLE, AnthropicWire
from providers.catalog import Catalog
from providers.keys import KeyOf, VendorKey
from providers.remote import Remote

ID: Final = ProviderId("anthropic")


def anthropic_provider(base_url: str, catalog: Catalog, key_of: KeyOf) -> Remote:
    return Remote(ID, "anthropic", AnthropicWire(base_url), VendorKey(ID, KEY_VARIABLE, key_of), catalog.of(ID))
