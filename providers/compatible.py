"""Any server that speaks OpenAI's wire, by name and URL: vLLM, llama.cpp, LM Studio, TGI, Groq, Together, OpenRouter ...

What it serves is what it lists, looked at again now and then; or what the settings declare. Not about the wire
(openai_wire).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from protos.errors import FabricError
from protos.types import Estimate, Modality, ModelId, ProviderId, Task, TaskEvent, TaskId, Tier
from providers.base import Health, Snapshot
from providers.catalog import Catalog, VendorModel
from providers.keys import VendorKey
from providers.openai_wire import Dialect, OpenAIWire
from providers.remote import Remote
from providers.settings import CompatibleServer, DeclaredModel

REFRESH_S: Final = 300.0  # between looks at the models of a server that answers: they change when somebody changes them
_BACKOFF_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0)  # between looks at one that does not; the last one repeats
_LIST_S: Final = 10.0  # for a list to come

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


class Compatible:
    """One such server. `on_change` is called when its models or its health change."""

    def __init__(
        self,
        server: CompatibleServer,
        catalog: Catalog,
        on_change: Callable[[], None] = lambda: None,
        *,
        refresh_s: float = REFRESH_S,
        backoff_s: Sequence[float] = _BACKOFF_S,
    ) -> None:
        self.id = ProviderId(server.name)
        self._server, self._catalog, self._on_change = server, catalog, on_change
        self._refresh_s, self._backoff_s = refresh_s, backoff_s
        variable = f"FABRIC_COMPATIBLE_{server.name.upper().replace('-', '_')}_KEY"
        takes = catalog.server(server.name).takes
        self._wire = OpenAIWire(Dialect(vendor=self.id, base_url=server.url, key_variable=variable, takes=takes))
        self._remote = Remote(
            self.id,
            "compatible",
            self._wire,
            VendorKey(self.id, variable, lambda _organization, _variable: None, fixed=server.key),
            models_of(server, (), catalog),
            tier=Tier.BASIC if server.is_local else Tier.PREMIUM,
        )
        self._health = Health(status="unavailable", reason=f"{server.url} has not answered yet")

    # ---- life ----

    async def start(self) -> None:
        await self._remote.start()
        self._watching = asyncio.create_task(self._watch(), name=f"models of {self.id}")

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait({self._watching})
        await self._remote.close()

    async def _watch(self) -> None:
        failures = 0
        while True:
            health = await self._look()
            if health.status != self._health.status:
                self._health = health
                self._on_change()
            self._health = health
            failures = 0 if health.status == "healthy" else failures + 1
            await asyncio.sleep(
                self._backoff_s[min(failures, len(self._backoff_s)) - 1] if failures else self._refresh_s
            )

    async def _look(self) -> Health:
        try:
            async with asyncio.timeout(_LIST_S):
                listed = await self._wire.models(self._server.key)
        except TimeoutError:
            return Health(status="degraded", reason=f"{self._server.url} has not listed its models in {_LIST_S:g} s")
        except FabricError as error:
            return Health(status="degraded", reason=error.message)
        before = self._remote.snapshot().offers
        self._remote.offer(models_of(self._server, listed, self._catalog))
        if self._remote.snapshot().offers != before:
            self._on_change()
        return Health(status="healthy")

    # ---- calls ----

    def snapshot(self) -> Snapshot:
        return replace(self._remote.snapshot(), health=self._health, is_remote=not self._server.is_local)

    def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        return self._remote.run(task)

    async def cancel(self, task_id: TaskId) -> None:
        await self._remote.cancel(task_id)

    async def estimate(self, task: Task) -> Estimate:
        return await self._remote.estimate(task)
