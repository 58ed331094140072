"""Any server that speaks OpenAI's wire, by name and URL: vLLM, llama.cpp, LM Studio, TGI, Groq, Together, OpenRouter ...

What it serves is what it lists, looked at again now and then; or what the settings declare. Not about the wire
(openai_wire).
"""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from protos.locality import is_local
from protos.types import Modality, ModelId, ProviderId, TaskRequest, Tier
from providers.catalog import Catalog, VendorModel
from providers.keys import VendorKey
from providers.openai_wire import Dialect, OpenAIWire
from providers.remote import MAX_CALLS, CallPart, VendorCall
from providers.settings import CompatibleServer, DeclaredModel
from providers.watched import Nature, Pace, Watched

# Its models change when somebody changes them, and a hosted one may charge for being asked too often.
PACE: Final = Pace(healthy_s=300.0, failing_s=(1.0, 2.0, 5.0, 15.0, 30.0))

# No server says what a model does, but their names do. The first that fits counts; none: text.
_MODALITY_WORDS: Final = (
    (Modality.EMBEDDING, re.compile(r"embed|\bbge\b|\be5\b|\bgte\b|minilm", re.IGNORECASE)),
    (Modality.AUDIO, re.compile(r"whisper|transcribe|parakeet", re.IGNORECASE)),
    (Modality.IMAGE, re.compile(r"image|dall-e|flux|diffusion|sdxl", re.IGNORECASE)),
)


def modality_of(model: str) -> Modality:
    """What a model of that name probably does."""
    return next((modality for modality, words in _MODALITY_WORDS if words.search(model)), Modality.TEXT)


def models_of(server: CompatibleServer, listed: Sequence[ModelId], catalog: Catalog) -> Sequence[VendorModel]:
    """What the server offers: the declared, else the listed; the first of each modality is its default there."""
    vendor = ProviderId(server.name)
    named = server.models or [DeclaredModel(model, modality_of(model)) for model in listed]
    seen: set[Modality] = set()
    models = []
    for entry in named:
        known = catalog.find(vendor, entry.id) or VendorModel(vendor=vendor, id=entry.id, modality=entry.modality)
        models.append(replace(known, is_default=known.modality not in seen))
        seen.add(known.modality)
    return models


def compatible_provider(
    server: CompatibleServer,
    catalog: Catalog,
    on_change: Callable[[], None] = lambda: None,
    *,
    pace: Pace = PACE,
) -> Watched:
    """`on_change` is called when its models or its health change. While it is silent it is degraded: what it has served
    may still be asked of it."""
    vendor = ProviderId(server.name)
    variable = f"FABRIC_COMPATIBLE_{server.name.upper().replace('-', '_')}_KEY"
    dialect = Dialect(
        vendor=vendor,
        base_url=server.url,
        key_variable=variable,
        bounds_itself=server.is_local or is_local(server.url),
        takes=catalog.server(server.name).takes,
    )
    nature = Nature(
        kind="compatible",
        tier=Tier.BASIC if server.is_local else Tier.PREMIUM,
        is_remote=not server.is_local,  # what listens on this machine may send on what it gets
        key=VendorKey(vendor, variable, lambda _organization, _variable: None, fixed=server.key),
        silent="degraded",
    )
    api = CompatibleApi(server, catalog, dialect)
    models = models_of(server, (), catalog)
    return Watched(vendor, server.url, api, on_change, at_once=MAX_CALLS, pace=pace, nature=nature, models=models)


class CompatibleApi:
    """A Listing: OpenAI's wire, and which of the listed models does what."""

    def __init__(self, server: CompatibleServer, catalog: Catalog, dialect: Dialect) -> None:
        self._server, self._catalog = server, catalog
        self._wire = OpenAIWire(dialect)
        self.manners: Final = self._wire.manners

    async def open(self) -> None:
        await self._wire.open()

    async def close(self) -> None:
        await self._wire.close()

    def check(self, request: TaskRequest, model: VendorModel) -> None:
        self._wire.check(request, model)

    def call(self, call: VendorCall) -> AsyncIterator[CallPart]:
        return self._wire.call(call)

    async def models(self) -> Sequence[VendorModel]:
        return models_of(self._server, await self._wire.models(self._server.key), self._catalog)
