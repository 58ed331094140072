"""A router's places put together as one node."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.types import (
    Device,
    Modality,
    Model,
    ModelId,
    ModelState,
    ModelStatus,
    NodeId,
    NodeStatus,
    ProviderId,
    Tier,
)
from providers.base import Health, Offer, Snapshot
from providers.echo import Echo
from router.overview import models_of, overview

ROUTER = NodeId("router")
GPU = Device(kind="cuda", name="H200", total_bytes=100, used_bytes=10, reserved_bytes=20, foreign_bytes=5)
CPU = Device(kind="cpu", name="EPYC", total_bytes=7, used_bytes=1, reserved_bytes=2, foreign_bytes=0)


def model(name: str = "m", state: ModelState = ModelState.READY, **changes: object) -> Model:
    whole = Model(id=ModelId(name), modality=Modality.TEXT, state=state, is_default=False, memory_bytes=3)
    return replace(whole, **changes)  # type: ignore[arg-type]  # its fields differ in type


def node(name: str, *models: ModelStatus, device: Device = CPU, status: str = "healthy") -> Snapshot:
    told = NodeStatus(
        node_id=NodeId(name),
        device=device,
        models=models,
        ready=True,
        reason="",
        draining=False,
        uptime_s=1.0,
        version="v",
    )
    return Snapshot(
        id=ProviderId(name),
        kind="node",
        tier=Tier.BASIC,
        offers=tuple(Offer(model=each.model.id, modality=each.model.modality) for each in models),
        health=Health(status=status, reason="gone" if status == "unavailable" else ""),  # type: ignore[arg-type]  # one of three
        node=told,
    )


def vendor(status: str = "healthy") -> Snapshot:
    return Snapshot(
        id=ProviderId("openai"),
        kind="openai",
        tier=Tier.PREMIUM,
        offers=(Offer(model=ModelId("gpt"), modality=Modality.TEXT, is_default=True, context_tokens=9),),
        health=Health(status=status, reason="429" if status == "unavailable" else ""),  # type: ignore[arg-type]  # as above
    )


def seen(*snapshots: Snapshot, is_draining: bool = False) -> NodeStatus:
    return overview(snapshots, ROUTER, is_draining=is_draining, uptime_s=2.0, version="v")


def test_devices_are_added_up_and_counted_by_name() -> None:
    device = seen(node("a", device=GPU), node("b", device=CPU), node("c", device=GPU)).device
    assert device == Device(
        kind="cuda", name="EPYC, 2 x H200", total_bytes=207, used_bytes=21, reserved_bytes=42, foreign_bytes=10
    )


def test_one_model_on_two_nodes_is_one_queue() -> None:
    here = ModelStatus(model=model(), waiting=1, running=2, max_batch=4, last_step_age_s=0.0, oldest_wait_s=3.0)
    there = ModelStatus(model=model(), waiting=4, running=1, max_batch=8, last_step_age_s=0.5, oldest_wait_s=1.0)
    (together,) = seen(node("a", here), node("b", there)).models
    assert (together.waiting, together.running, together.max_batch) == (5, 3, 12)
    assert (together.last_step_age_s, together.oldest_wait_s) == (0.5, 3.0)  # 0: it has not stepped yet


def test_of_two_states_the_better_counts_and_the_memory_is_both_s() -> None:
    failed = model(state=ModelState.FAILED, error="no room", is_default=True)
    ready = model(state=ModelState.READY)
    (told,) = models_of([node("a", ModelStatus(model=failed)), node("b", ModelStatus(model=ready))])
    assert (told.state, told.error, told.is_default, told.memory_bytes) == (ModelState.READY, "", True, 6)


def test_a_vendor_s_models_are_listed_with_who_runs_them_and_whether_they_can() -> None:
    (up,) = models_of([vendor()])
    assert (up.id, up.engine, up.state, up.is_default, up.context_tokens) == (
        "gpt",
        "openai",
        ModelState.READY,
        True,
        9,
    )
    (down,) = models_of([vendor("unavailable")])
    assert (down.state, down.error) == (ModelState.FAILED, "openai: 429")


def test_another_router_s_queues_are_its_own_to_tell() -> None:
    fabric = replace(node("attic", ModelStatus(model=model()), device=GPU), kind="fabric")
    status = seen(fabric)
    assert (status.models, status.device.total_bytes, status.ready) == ([], 0, True)
    assert [told.id for told in models_of([fabric])] == ["m"]


def test_it_is_ready_while_any_place_but_echo_can_serve() -> None:
    echo = Echo().snapshot()
    down = node("a", status="unavailable")
    assert (seen(echo).ready, seen(echo).reason) == (False, "no node and no vendor is configured")
    assert (seen(down, echo).ready, seen(down, echo).reason) == (False, "a: gone")
    assert seen(down, vendor(), echo).ready
    drained = seen(vendor(), is_draining=True)
    assert (drained.ready, drained.draining, drained.reason) == (False, True, "it is shutting down")


COUNTS = st.integers(0, 9)
STATUSES = st.builds(
    ModelStatus,
    model=st.builds(model, st.sampled_from("ab"), st.sampled_from(ModelState)),
    waiting=COUNTS,
    running=COUNTS,
    succeeded=COUNTS,
)
NODES = st.lists(st.lists(STATUSES, max_size=2, unique_by=lambda status: status.model.id), max_size=4)


@given(NODES)
def test_no_task_is_counted_twice_or_lost(nodes: list[list[ModelStatus]]) -> None:
    status = seen(*(node(f"n{index}", *models) for index, models in enumerate(nodes)))
    each = [model for models in nodes for model in models]
    for name in ("waiting", "running", "succeeded"):
        assert sum(getattr(m, name) for m in status.models) == sum(getattr(m, name) for m in each)
    assert len({told.model.id for told in status.models}) == len(status.models)
