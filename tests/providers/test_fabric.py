"""Another router as a provider, over real gRPC: its nodes, its keys, TLS, and that tasks do not go round in circles."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from certificates import self_signed
from door import Bell, open_door
from edge import BOUND_S, fake_node
from scripted import MODEL, STARTED, Scripted, said
from vendors.places import started

from protos.errors import Cancelled, InputInvalid, ModelNotFound, Unauthorized
from protos.types import Finished, ModelId, ProviderId, Queued, Started, Task, TaskEvent, TaskId, TextRequest, Tier
from providers.echo import Echo
from providers.fabric import fabric
from providers.node import NodeProvider
from providers.registry import configured
from providers.settings import FabricRouter, ProviderSettings
from router.principals import DEVELOPER, Principal

KEY = "fab_0123456789abcdef"


def text(task_id: str = "t", **more: object) -> Task:
    return Task(id=TaskId(task_id), request=TextRequest(prompt="hello big world"), **more)  # type: ignore[arg-type]  # many


def check_key(authorization: str) -> Principal:
    if authorization != f"Bearer {KEY}":
        raise Unauthorized("the key is not known here")
    return DEVELOPER


class Noting(Scripted):
    """Keeps the tasks that it is given."""

    def __init__(self, *plans: object, **more: object) -> None:
        super().__init__(*plans, **more)  # type: ignore[arg-type]  # as its parent's
        self.tasks: list[Task] = []

    async def run(self, task: Task) -> AsyncIterator[TaskEvent]:
        self.tasks.append(task)
        async for event in super().run(task):
            yield event


@asynccontextmanager
async def reached(router: FabricRouter) -> AsyncIterator[NodeProvider]:
    bell = Bell()
    provider = fabric(router, bell, silence_s=2.0)
    async with started(provider):
        await bell.until_healthy(provider)
        yield provider


async def refusal_of(router: FabricRouter) -> str:
    """Why it stays unavailable."""
    provider = fabric(router, lambda: None, silence_s=2.0)
    async with started(provider), asyncio.timeout(BOUND_S):
        while "has not answered yet" in provider.snapshot().health.reason:  # noqa: ASYNC110  # only a change rings
            await asyncio.sleep(0.01)
        assert provider.snapshot().health.status == "unavailable"
        return provider.snapshot().health.reason


async def events_of(provider: NodeProvider, task: Task) -> list[TaskEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in provider.run(task)]


async def test_a_router_offers_its_nodes_models_and_runs_them(tmp_path: Path) -> None:
    bell = Bell()
    async with fake_node(tmp_path / "node") as node:
        behind = NodeProvider(ProviderId("node"), node.target, bell)
        paid = Scripted(provider_id="vendor", tier=Tier.PREMIUM)
        async with open_door(tmp_path, [behind, paid, Echo()]) as door:
            await bell.until_healthy(behind)
            async with reached(FabricRouter(name="attic", target=door.target)) as attic:
                snapshot = attic.snapshot()
                events = await events_of(attic, text())
    assert (snapshot.id, snapshot.kind, snapshot.tier, snapshot.is_remote) == ("attic", "fabric", Tier.BASIC, False)
    assert {offer.model for offer in snapshot.offers} == {"fake-text", "fake-image", "fake-audio", "fake-embedding"}
    assert [type(event) for event in events][:2] == [Queued, Started]
    assert isinstance(events[-1], Finished)


def test_a_router_elsewhere_is_remote_and_is_reached_over_tls() -> None:
    away = fabric(FabricRouter(name="attic", target="attic.lan:3002", key=KEY), lambda: None)
    assert away.snapshot().is_remote
    assert KEY not in repr(vars(away))


async def test_what_it_is_told_of_a_task_arrives_and_that_it_was_passed_on(tmp_path: Path) -> None:
    place = Noting([Queued(0), STARTED, said("done")])
    async with (
        open_door(tmp_path, [place]) as door,
        reached(FabricRouter(name="attic", target=door.target)) as attic,
    ):
        await events_of(attic, text(model=MODEL, tier=Tier.BASIC, privacy="local_only"))
    (task,) = place.tasks
    assert (task.tier, task.privacy, task.is_forwarded) == (Tier.BASIC, "local_only", True)


async def test_two_routers_that_know_each_other_pass_no_task_around(tmp_path: Path) -> None:
    place, bell = Noting([Queued(0), STARTED, said("done")], provider_id="place"), Bell()
    async with open_door(tmp_path / "one", [place]) as one:
        to_one = fabric(FabricRouter(name="one", target=one.target), bell)
        async with open_door(tmp_path / "two", [to_one]) as two:
            await bell.until_healthy(to_one)
            async with reached(FabricRouter(name="two", target=two.target)) as to_two:
                with pytest.raises(ModelNotFound, match="'parrot' is not here"):  # two has nothing of its own
                    await events_of(to_two, text(model=MODEL))
    assert place.tasks == []


async def test_a_cancel_passes_through_the_router_to_the_node(tmp_path: Path) -> None:
    gate, bell = threading.Event(), Bell()
    gate.set()
    async with fake_node(tmp_path / "node", gate) as node:
        behind = NodeProvider(ProviderId("node"), node.target, bell)
        async with open_door(tmp_path, [behind]) as door:
            await bell.until_healthy(behind)
            async with reached(FabricRouter(name="attic", target=door.target)) as attic, asyncio.timeout(BOUND_S):
                gate.clear()
                events = attic.run(text(model=ModelId("fake-text")))
                assert isinstance(await anext(events), Queued)
                await attic.cancel(TaskId("t"))
                with pytest.raises(Cancelled, match="cancelled by request"):
                    async for _ in events:
                        pass
                async for status in node.service.watch(0.02):
                    if not any(model.waiting + model.running for model in status.models):
                        break


async def test_its_key_opens_the_door_and_without_it_the_reason_is_told(tmp_path: Path) -> None:
    place = Noting([Queued(0), STARTED, said("done")])
    async with open_door(tmp_path, [place], check_key) as door:
        async with reached(FabricRouter(name="attic", target=door.target, key=KEY)) as attic:
            assert isinstance((await events_of(attic, text(model=MODEL)))[-1], Finished)
        assert await refusal_of(FabricRouter(name="attic", target=door.target)) == "the key is not known here"


async def test_over_tls_the_door_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    ours, other = self_signed(tmp_path), self_signed(tmp_path, "other")
    place = Noting([Queued(0), STARTED, said("done")])
    tls = {"grpc_certificate": ours.certificate, "grpc_private_key": ours.private_key}
    async with open_door(tmp_path, [place], check_key, **tls) as door:
        trusted = FabricRouter(name="attic", target=door.target, key=KEY, authority=ours.certificate)
        async with reached(trusted) as attic:
            assert isinstance((await events_of(attic, text(model=MODEL)))[-1], Finished)
        for stranger in (
            FabricRouter(name="attic", target=door.target, key=KEY, authority=other.certificate),
            FabricRouter(name="attic", target=door.target, key=KEY),  # no TLS
        ):
            assert "cannot be reached" in await refusal_of(stranger)


def test_an_authority_that_cannot_be_read_names_its_variable(tmp_path: Path) -> None:
    router = FabricRouter(name="my-attic", target="attic.lan:3002", authority=tmp_path / "gone.pem")
    with pytest.raises(InputInvalid, match=r"FABRIC_ROUTERS_MY_ATTIC_CA: is '.*gone\.pem', which cannot be read"):
        fabric(router, lambda: None)


def test_servers_of_one_s_own_and_other_routers_are_switched_on_by_the_settings() -> None:
    settings = ProviderSettings(
        ollama_url="http://localhost:11434",
        whisper_url="http://localhost:8000",
        comfyui_url="http://gpu.lan:8188",
        routers=(FabricRouter(name="attic", target="attic.lan:3002"),),
    )
    providers = configured(settings, lambda: None)
    seen = {provider.id: provider.snapshot() for provider in providers}
    assert list(seen) == ["ollama", "whisper", "comfyui", "attic", "echo"]
    assert {name for name, snapshot in seen.items() if snapshot.is_remote} == {"comfyui", "attic"}
    assert {snapshot.tier for snapshot in seen.values()} == {Tier.BASIC}
