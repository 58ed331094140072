"""OpenAI: text, pictures, speech and embeddings. Its wire is openai_wire, its models are in prices.toml."""

from typing import Final

from protos.types import ProviderId
from providers.catalog import Catalog
from providers.keys import KeyOf, VendorKey
from providers.openai_wire import Dialect, OpenAIWire
from providers.remote import Remote

ID: Final = ProviderId("openai")
KEY_VARIABLE: Final = "OPENAI_API_KEY"
_STOP_LIMIT: Final = 4  # texts. Source: https://platform.openai.com/docs/api-reference/chat/create


def openai_provider(base_url: str, catalog: Catalog, key_of: KeyOf) -> Remote:
    dialect = Dialect(
        vendor=ID,
        base_url=base_url,
        key_variable=KEY_VARIABLE,
        max_tokens="max_completion_tokens",  # models that think refuse the older name
        stop_limit=_STOP_LIMIT,
    )
    return Remote(ID, "openai", OpenAIWire(dialect), VendorKey(ID, KEY_VARIABLE, key_of), catalog.of(ID))
