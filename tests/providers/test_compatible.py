"""Any OpenAI-compatible server, by name and URL: what it lists is what it serves."""

import asyncio
from collections.abc import Callable

import pytest
from vendors.faults import Status, always
from vendors.openai_app import OpenAIStandIn
from vendors.places import compatible_place, started
from vendors.serving import serving

from protos.errors import InputInvalid, VendorRefused
from protos.types import EmbeddingRequest, Finished, Modality, ModelId, Task, TaskEvent, TaskId, TextRequest, Tier
from providers.base import Health
from providers.catalog import load_catalog
from providers.compatible import compatible_provider, modality_of
from providers.settings import CompatibleServer, DeclaredModel
from providers.watched import Pace, Watched

BOUND_S = 60.0
WORDS = TextRequest(prompt="one two three", top_k=5, min_p=0.1, repetition_penalty=1.1)


async def run(provider: Watched, task: Task) -> list[TaskEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in provider.run(task)]


class Watch:
    """Waits until a provider is as asked for, woken by its own changes."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.rings = 0

    def ring(self) -> None:
        self.rings += 1
        self.changed.set()

    async def until(self, provider: Watched, is_so: Callable[[Health], bool]) -> Health:
        async with asyncio.timeout(BOUND_S):
            while not is_so(provider.snapshot().health):
                await self.changed.wait()
                self.changed.clear()
        return provider.snapshot().health


@pytest.mark.parametrize(
    ("model", "modality"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", Modality.TEXT),
        ("BAAI/bge-m3", Modality.EMBEDDING),
        ("text-embedding-nomic-embed-text-v1.5", Modality.EMBEDDING),
        ("sentence-transformers/all-MiniLM-L6-v2", Modality.EMBEDDING),
        ("Systran/faster-whisper-small", Modality.AUDIO),
        ("black-forest-labs/FLUX.1-schnell", Modality.IMAGE),
        ("stabilityai/stable-diffusion-xl", Modality.IMAGE),
    ],
)
def test_a_model_s_name_tells_what_it_does(model: str, modality: Modality) -> None:
    assert modality_of(model) is modality


async def test_it_offers_what_the_server_lists_with_the_first_of_each_modality_by_default() -> None:
    async with compatible_place(("llama-a", "llama-b", "bge-m3")) as place:
        offers = place.provider.snapshot().offers
    assert [(offer.model, offer.modality, offer.is_default) for offer in offers] == [
        ("llama-a", Modality.TEXT, True),
        ("llama-b", Modality.TEXT, False),
        ("bge-m3", Modality.EMBEDDING, True),
    ]


async def test_declared_models_count_instead_of_the_list() -> None:
    declared = (DeclaredModel(ModelId("own"), Modality.EMBEDDING),)
    async with compatible_place(("llama-a", "own"), declared) as place:
        assert [(offer.model, offer.modality) for offer in place.provider.snapshot().offers] == [
            ("own", Modality.EMBEDDING)
        ]
        task = Task(id=TaskId("t"), request=EmbeddingRequest(texts=("a",)))
        async with asyncio.timeout(BOUND_S):
            events = [event async for event in place.provider.run(task)]
    assert isinstance(events[-1], Finished)


async def test_a_server_known_by_its_name_takes_its_own_params() -> None:
    async with compatible_place(("llama",), name="llamacpp-2") as place:
        async with asyncio.timeout(BOUND_S):
            _ = [event async for event in place.provider.run(Task(id=TaskId("t"), request=WORDS))]
        sent = place.vendor.bodies[-1]
    assert (sent["top_k"], sent["min_p"], sent["repeat_penalty"]) == (5, 0.1, 1.1)
    assert "max_tokens" not in sent


async def test_one_s_own_bound_holds_where_the_caller_states_none_and_the_answer_is_free() -> None:
    """512 tokens beyond the prompt are too many for a small context, and are refused for that."""
    async with compatible_place(("llama",)) as place:
        for limit in (None, 7):
            await run(place.provider, Task(id=TaskId("t"), request=TextRequest(prompt="one two", max_tokens=limit)))
        sent = [body.get("max_tokens") for body in place.vendor.bodies[-2:]]
    assert sent == [None, 7]
    assert not any("max_completion_tokens" in body for body in place.vendor.bodies)


async def test_one_that_nobody_knows_takes_openai_s_alone() -> None:
    async with compatible_place(("llama",), name="groq") as place:
        with pytest.raises(InputInvalid, match=r"params\.top_k: is not taken by groq"):
            async with asyncio.timeout(BOUND_S):
                _ = [event async for event in place.provider.run(Task(id=TaskId("t"), request=WORDS))]


async def test_without_a_key_none_is_sent() -> None:
    async with compatible_place(("llama",)) as place:
        assert "authorization" not in place.vendor.headers[0]


async def test_its_key_is_sent_and_one_that_is_refused_names_its_variable() -> None:
    vendor, watch = OpenAIStandIn(key="gsk_0123456789", models=("llama",)), Watch()
    async with serving(vendor.app()) as url:
        good = CompatibleServer(name="my-groq", url=f"{url}/v1", key="gsk_0123456789")
        async with started(compatible_provider(good, load_catalog(), watch.ring)) as provider:
            await watch.until(provider, lambda health: health.status == "healthy")  # type: ignore[arg-type]
        bad = CompatibleServer(name="my-groq", url=f"{url}/v1", key="gsk_9876543210")
        async with started(compatible_provider(bad, load_catalog(), watch.ring)) as provider:
            health = await watch.until(provider, lambda health: health.status == "degraded")  # type: ignore[arg-type]
    assert "The key is FABRIC_COMPATIBLE_MY_GROQ_KEY" in health.reason
    assert "gsk_" not in health.reason


async def test_one_that_cannot_be_reached_is_degraded_until_it_can() -> None:
    vendor, watch = OpenAIStandIn(models=("llama",)), Watch()
    vendor.plan = always(Status(503, said="loading"))
    async with serving(vendor.app()) as url:
        server = CompatibleServer(name="slow", url=f"{url}/v1")
        provider = compatible_provider(server, load_catalog(), watch.ring, pace=Pace(failing_s=(0.01,)))
        assert provider.snapshot().health.status == "unavailable"
        async with started(provider):
            health = await watch.until(provider, lambda health: health.status == "degraded")
            assert "loading" in health.reason
            assert provider.snapshot().offers == ()
            vendor.plan = always(None)
            await watch.until(provider, lambda health: health.status == "healthy")
            assert [offer.model for offer in provider.snapshot().offers] == ["llama"]


async def test_a_model_that_comes_later_is_offered_later() -> None:
    vendor, watch = OpenAIStandIn(models=("llama",)), Watch()
    async with serving(vendor.app()) as url:
        server = CompatibleServer(name="vllm", url=f"{url}/v1")
        provider = compatible_provider(server, load_catalog(), watch.ring, pace=Pace(healthy_s=0.01))
        async with started(provider):
            await watch.until(provider, lambda health: health.status == "healthy")
            vendor.models = ("llama", "qwen")
            await watch.until(provider, lambda _: len(provider.snapshot().offers) == 2)


@pytest.mark.parametrize(("is_local", "tier"), [(True, Tier.BASIC), (False, Tier.PREMIUM)])
def test_only_one_that_is_said_to_be_local_gets_what_must_not_leave(*, is_local: bool, tier: Tier) -> None:
    server = CompatibleServer(name="a", url="http://127.0.0.1:1/v1", is_local=is_local)
    snapshot = compatible_provider(server, load_catalog()).snapshot()
    assert (snapshot.tier, snapshot.is_remote) == (tier, not is_local)


async def test_the_organization_s_keys_of_vendors_are_never_sent_to_it() -> None:
    vendor = OpenAIStandIn(models=("llama",), key="another")
    async with serving(vendor.app()) as url:
        declared = (DeclaredModel(ModelId("llama"), Modality.TEXT),)
        server = CompatibleServer(name="vllm", url=f"{url}/v1", models=declared)
        async with started(compatible_provider(server, load_catalog())) as provider:
            with pytest.raises(VendorRefused):
                await run(provider, Task(id=TaskId("t"), request=TextRequest(prompt="a")))  # type: ignore[arg-type]
    assert all("authorization" not in headers for headers in vendor.headers)
