"""No vendor's key is ever written down: not in a log, an error, an event, a snapshot or a repr."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from vendors.anthropic_app import AnthropicStandIn
from vendors.faults import Cut, FailsWithin, Garbage, Plan, Status, cycle
from vendors.openai_app import OpenAIStandIn
from vendors.places import started
from vendors.serving import serving

from protos.errors import FabricError
from protos.types import (
    AudioRequest,
    Blob,
    EmbeddingRequest,
    ImageRequest,
    Modality,
    ModelId,
    Task,
    TaskId,
    TaskRequest,
    TextRequest,
)
from providers.anthropic import anthropic_provider
from providers.base import Provider
from providers.catalog import load_catalog
from providers.compatible import compatible_provider
from providers.keys import settings_keys
from providers.openai import openai_provider
from providers.settings import CompatibleServer, DeclaredModel, ProviderSettings
from providers.wrappers import Breaking, Metered, Wrapped

OPENAI_KEY = "sk-proj-7hFq2LmZx9TtKb4Vw8Yc"
ANTHROPIC_KEY = "sk-ant-api03-Rk5Nd1Pj6Gs3Ho0Qe"
SERVER_KEY = "no-usual-look-Bz4Xu8Mi2"
LLAMA = DeclaredModel(ModelId("llama"), Modality.TEXT)
BOUND_S = 60.0
REQUESTS: tuple[tuple[str, str, TaskRequest], ...] = (
    ("openai", "gpt-4o-mini", TextRequest(prompt="a b c d e f")),
    ("openai", "text-embedding-3-small", EmbeddingRequest(texts=("a",))),
    ("openai", "gpt-image-2.6-sunburst", ImageRequest(prompt="a", width=1024, height=1024)),
    ("openai", "whisper-1", AudioRequest(audio=Blob(b"\0" * 64_000, "audio/wav"))),
    ("anthropic", "claude-haiku-4-5", TextRequest(prompt="a b c d e f")),
    ("mine", "llama", TextRequest(prompt="a b c d e f")),
)


def leaks(*keys: str) -> Plan:
    """Faults whose words repeat the keys, as some vendors' do."""
    words = " and ".join(keys)
    statuses = (400, 401, 403, 404, 409, 413, 429, 500, 503, 529)
    return cycle([
        None, *(Status(status, "", f"key {words} was seen") for status in statuses),
        FailsWithin("server_error", f"key {words} broke", 2), Garbage(f"{{{words}", 2), Cut(2),
    ])  # fmt: skip


@asynccontextmanager
async def vendors() -> AsyncIterator[tuple[ProviderSettings, list[Wrapped]]]:
    openai = OpenAIStandIn(plan=leaks(OPENAI_KEY))
    mine = OpenAIStandIn(plan=leaks(SERVER_KEY), models=("llama",))
    anthropic = AnthropicStandIn(plan=leaks(ANTHROPIC_KEY))
    async with serving(openai.app()) as one, serving(mine.app()) as two, serving(anthropic.app()) as three:
        settings = ProviderSettings(
            openai_api_key=OPENAI_KEY,
            openai_base_url=f"{one}/v1",
            anthropic_api_key=ANTHROPIC_KEY,
            anthropic_base_url=three,
            compatible=(CompatibleServer(name="mine", url=f"{two}/v1", key=SERVER_KEY, models=(LLAMA,)),),
        )
        catalog, key_of = load_catalog(), settings_keys(settings)
        all_of_them: list[Provider] = [
            openai_provider(settings.openai_base_url, catalog, key_of),
            anthropic_provider(settings.anthropic_base_url, catalog, key_of),
            compatible_provider(settings.compatible[0], catalog),
        ]
        yield settings, [Wrapped(provider, [Breaking(), Metered()]) for provider in all_of_them]


async def told(provider: Provider, task: Task) -> list[object]:
    """All that the caller of a task can see, the trace of its failure included."""
    seen: list[object] = []
    try:
        async for event in provider.run(task):
            seen.append(event)  # noqa: PERF401  # what came before a failure counts
    except FabricError as error:
        seen += [error, error.message, error.details, *traceback.format_exception(error)]
    return seen


async def test_a_key_is_in_nothing_that_was_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    async with vendors() as (settings, providers), asyncio.timeout(BOUND_S):
        seen.append(settings)
        for provider in providers:
            async with started(provider):
                for round_ in range(14):
                    for vendor, model, request in REQUESTS:
                        if vendor == provider.id:
                            task = Task(id=TaskId(f"{model}-{round_}"), request=request, model=ModelId(model))
                            seen += [provider, provider.snapshot(), *await told(provider, task)]
    written = "\n".join([*map(repr, seen), *map(str, seen), caplog.text])
    assert "was seen" in written  # the vendors did repeat them
    for key in (OPENAI_KEY, ANTHROPIC_KEY, SERVER_KEY):
        assert key not in written
        assert key[-8:] not in written
