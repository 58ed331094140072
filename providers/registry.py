"""The providers of one router: built from the settings, started and closed together.

Not about which of them gets a task (router/routing.py).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from protos.errors import NotFound
from protos.types import OrganizationId, ProviderId
from providers.aliases import Alias, Naming
from providers.anthropic import anthropic_provider
from providers.base import Provider, Snapshot
from providers.catalog import load_catalog
from providers.compatible import compatible_provider
from providers.echo import Echo
from providers.fabric import fabric
from providers.keys import KeyOf, settings_keys
from providers.node import NodeProvider
from providers.openai import openai_provider
from providers.settings import ProviderSettings
from providers.wrappers import guarded


def configured(
    settings: ProviderSettings, on_change: Callable[[], None], key_of: KeyOf | None = None
) -> list[Provider]:
    """Every provider of a router, in the order of preference between equals. The next vendor is one line here.

    `on_change` is called when the health of one changes. `key_of`: the vendors' keys by organization; without it those
    of the settings. Raises InputInvalid when the settings name a file of prices that cannot be read.
    """
    nodes = [NodeProvider(_node_id(index), target, on_change) for index, target in enumerate(settings.nodes)]
    return [*nodes, *_vendors(settings, on_change, key_of or settings_keys(settings)), Echo()]


def _vendors(settings: ProviderSettings, on_change: Callable[[], None], key_of: KeyOf) -> Iterator[Provider]:
    # Imported where they are wanted: their HTTP client takes a second, which a router without them does not spend.
    if settings.ollama_url:
        from providers.ollama import ollama_provider  # noqa: PLC0415

        yield guarded(ollama_provider(settings.ollama_url, settings.ollama_pull, on_change), on_change, is_free=True)
    if settings.whisper_url:
        from providers.whisper import whisper_provider  # noqa: PLC0415

        yield guarded(whisper_provider(settings.whisper_url, on_change), on_change, is_free=True)
    if settings.comfyui_url:
        from providers.comfyui import comfyui_provider  # noqa: PLC0415

        drawing = comfyui_provider(settings.comfyui_url, settings.comfyui_workflow, on_change)
        yield guarded(drawing, on_change, is_free=True)
    yield from (fabric(router, on_change) for router in settings.routers)
    catalog = load_catalog(settings.prices)
    for server in settings.compatible:
        yield guarded(compatible_provider(server, catalog, on_change), on_change, is_free=server.is_local)
    if settings.openai_api_key or settings.organization_keys:
        yield guarded(openai_provider(settings.openai_base_url, catalog, key_of), on_change)
    if settings.anthropic_api_key or settings.organization_keys:
        yield guarded(anthropic_provider(settings.anthropic_base_url, catalog, key_of), on_change)


def _node_id(index: int) -> ProviderId:
    """node, node-2, node-3, ..."""
    return ProviderId("node" if index == 0 else f"node-{index + 1}")


class ProviderRegistry:
    """The providers by id. `aliases`: other names of their models. `lacking`: the variables of vendors' keys that an
    organization does not have."""

    def __init__(
        self,
        providers: Sequence[Provider],
        aliases: Sequence[Alias] = (),
        lacking: Callable[[OrganizationId], Collection[str]] = lambda _: (),
    ) -> None:
        self._providers = {provider.id: provider for provider in providers}
        if len(self._providers) < len(providers):
            ids = sorted(provider.id for provider in providers)
            raise ValueError(f"two providers have the same id: {', '.join(ids)}")
        self.aliases, self._naming, self._lacking = aliases, Naming(aliases), lacking
        self._started = AsyncExitStack()

    async def start(self) -> None:
        """Starts each; when one fails, those before it are closed again."""
        async with AsyncExitStack() as stack:
            for provider in self._providers.values():
                await provider.start()
                stack.push_async_callback(provider.close)
            self._started = stack.pop_all()

    async def close(self) -> None:
        """Closes them in reverse, also when one raises."""
        await self._started.aclose()

    def snapshots(self, asker: OrganizationId | None = None) -> Sequence[Snapshot]:
        """As the organization may use them; None: whatever keys somebody has."""
        named = self._naming.named
        seen = [named(provider.snapshot()) for provider in self._providers.values()]
        lacking = () if asker is None else self._lacking(asker)
        if not lacking:
            return seen
        return [replace(each, lacks_key=True) if each.key_variable in lacking else each for each in seen]

    def get(self, provider_id: ProviderId) -> Provider:
        """Raises NotFound."""
        try:
            return self._providers[provider_id]
        except KeyError:
            known = ", ".join(sorted(self._providers))
            raise NotFound(f"no provider {provider_id!r}: there are {known}") from None
