"""Vendors' providers, each before its stand-in on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anthropic
import openai
from vendors.anthropic_app import AnthropicStandIn
from vendors.comfy_app import ComfyStandIn
from vendors.ollama_app import Model, OllamaStandIn
from vendors.openai_app import OpenAIStandIn
from vendors.serving import BOUND_S, serving
from vendors.whisper_app import WhisperStandIn

from protos.types import ModelId, ProviderId
from providers.anthropic import anthropic_provider
from providers.base import Provider
from providers.catalog import Catalog, load_catalog
from providers.comfyui import comfyui_provider
from providers.compatible import compatible_provider
from providers.keys import KeyOf
from providers.ollama import ollama_provider
from providers.openai import openai_provider
from providers.settings import CompatibleServer, DeclaredModel
from providers.whisper import whisper_provider

# Made once at the import: what they load first takes seconds, which no bound of a test has to hold.
_LOADED = (anthropic.AsyncAnthropic(api_key="-"), openai.AsyncOpenAI(api_key="-"))

KEY = "sk-standin-0123456789abcdef"


@dataclass(frozen=True)
class OpenAIPlace:
    provider: Provider
    vendor: OpenAIStandIn


@dataclass(frozen=True)
class OllamaPlace:
    provider: Provider
    vendor: OllamaStandIn


@dataclass(frozen=True)
class WhisperPlace:
    provider: Provider
    vendor: WhisperStandIn


@dataclass(frozen=True)
class ComfyPlace:
    provider: Provider
    vendor: ComfyStandIn


@dataclass(frozen=True)
class AnthropicPlace:
    provider: Provider
    vendor: AnthropicStandIn


def key_of(organization_id: str, variable: str) -> str | None:  # noqa: ARG001  # a KeyOf: the same for everybody
    return KEY


def only(vendor: str, models: Sequence[str]) -> Catalog:
    """What ships, of these models alone; the first of each modality is its default."""
    known = load_catalog()
    found = [model for name in models if (model := known.find(ProviderId(vendor), ModelId(name))) is not None]
    first = {model.modality: model for model in reversed(found)}
    # Also those that are no longer there: what differs between models is proved with them.
    return Catalog([replace(model, is_retired=False, is_default=first[model.modality] is model) for model in found])


@asynccontextmanager
async def openai_place(
    models: Sequence[str] = ("gpt-4o-mini", "text-embedding-3-small", "gpt-image-2.6-sunburst", "whisper-1"),
    keys: KeyOf = key_of,
) -> AsyncIterator[OpenAIPlace]:
    vendor = OpenAIStandIn(key=KEY)
    async with serving(vendor.app()) as url, started(openai_provider(f"{url}/v1", only("openai", models), keys)) as it:
        yield OpenAIPlace(it, vendor)


@asynccontextmanager
async def anthropic_place(
    models: Sequence[str] = ("claude-haiku-4-5",), keys: KeyOf = key_of
) -> AsyncIterator[AnthropicPlace]:
    vendor = AnthropicStandIn(key=KEY)
    async with serving(vendor.app()) as url, started(anthropic_provider(url, only("anthropic", models), keys)) as it:
        yield AnthropicPlace(it, vendor)


@asynccontextmanager
async def compatible_place(
    models: Sequence[str] = ("llama-3.1-8b", "bge-m3", "flux-1", "whisper-large"),
    declared: Sequence[DeclaredModel] = (),
    name: str = "vllm",
) -> AsyncIterator[OpenAIPlace]:
    vendor = OpenAIStandIn(models=models)
    async with serving(vendor.app()) as url:
        server = CompatibleServer(name=name, url=f"{url}/v1", models=tuple(declared))
        changed = asyncio.Event()
        provider = compatible_provider(server, load_catalog(), changed.set)
        async with ready(provider, changed):
            yield OpenAIPlace(provider, vendor)


@asynccontextmanager
async def ollama_place(models: Mapping[str, Model], **vendor: Any) -> AsyncIterator[OllamaPlace]:  # Any: its fields
    stand_in = OllamaStandIn(dict(models), **vendor)
    async with serving(stand_in.app()) as url:
        changed = asyncio.Event()
        provider = ollama_provider(url, (), changed.set)
        async with ready(provider, changed):
            yield OllamaPlace(provider, stand_in)


@asynccontextmanager
async def whisper_place(**vendor: Any) -> AsyncIterator[WhisperPlace]:  # Any: its fields
    stand_in = WhisperStandIn(**vendor)
    async with serving(stand_in.app()) as url:
        changed = asyncio.Event()
        provider = whisper_provider(url, changed.set)
        async with ready(provider, changed):
            yield WhisperPlace(provider, stand_in)


@asynccontextmanager
async def comfyui_place(**vendor: Any) -> AsyncIterator[ComfyPlace]:  # Any: its fields
    stand_in = ComfyStandIn(**vendor)
    async with serving(stand_in.app()) as url:
        changed = asyncio.Event()
        provider = comfyui_provider(url, None, changed.set)
        async with ready(provider, changed):
            yield ComfyPlace(provider, stand_in)


@asynccontextmanager
async def started(provider: Provider) -> AsyncIterator[Provider]:
    await provider.start()
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def ready(provider: Provider, changed: asyncio.Event) -> AsyncIterator[None]:
    """Started, and seen to be healthy. changed: what the provider sets when it changes."""
    async with started(provider):
        async with asyncio.timeout(BOUND_S):
            while provider.snapshot().health.status != "healthy":
                await changed.wait()
                changed.clear()
        yield
