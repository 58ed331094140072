"""A router as one node: the statuses and models of its places, put together. Pure.

Not about where they come from (providers/registry.py) nor how they travel (node/rpc.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from protos.types import Device, Model, ModelId, ModelState, ModelStatus, NodeId, NodeStatus
from providers.base import Offer, Snapshot

NODE: Final = "node"  # the kind; what another router has is its own to tell, or two would tell of each other
_BEST_FIRST: Final = (ModelState.READY, ModelState.LOADING, ModelState.UNLOADED, ModelState.FAILED)


def overview(
    snapshots: Sequence[Snapshot], node_id: NodeId, *, is_draining: bool, uptime_s: float, version: str
) -> NodeStatus:
    """The nodes' devices and queues as those of one, and whether anything here can serve."""
    nodes = [snapshot.node for snapshot in snapshots if snapshot.node is not None and snapshot.kind == NODE]
    reason = "it is shutting down" if is_draining else _unready_reason(snapshots)
    return NodeStatus(
        node_id=node_id,
        device=_device([node.device for node in nodes]),
        models=_models([model for node in nodes for model in node.models]),
        ready=not reason,
        reason=reason,
        draining=is_draining,
        uptime_s=uptime_s,
        version=version,
    )


def models_of(snapshots: Sequence[Snapshot]) -> list[Model]:
    """Every model that some place here serves, each once: a node's own word first, then what the others offer."""
    told = [model.model for snapshot in snapshots if snapshot.node is not None for model in snapshot.node.models]
    offered = [_offered(s, offer) for s in snapshots if s.node is None for offer in s.offers]
    groups: dict[tuple[ModelId, str], list[Model]] = {}
    for model in (*told, *offered):
        groups.setdefault((model.id, model.modality), []).append(model)
    return [_best(group) for group in groups.values()]


def _offered(snapshot: Snapshot, offer: Offer) -> Model:
    """A vendor's model: loaded where it runs, as far as can be known, and its memory is not ours."""
    is_up = snapshot.health.status != "unavailable"
    return Model(
        id=offer.model,
        modality=offer.modality,
        state=ModelState.READY if is_up else ModelState.FAILED,
        is_default=offer.is_default and not snapshot.only_when_named,
        memory_bytes=0,
        error="" if is_up else f"{snapshot.id}: {snapshot.health.reason or 'not seen yet'}",
        context_tokens=offer.context_tokens,
        engine=snapshot.kind,
    )


def _unready_reason(snapshots: Sequence[Snapshot]) -> str:
    places = [snapshot for snapshot in snapshots if not snapshot.only_when_named]
    if any(snapshot.health.status != "unavailable" for snapshot in places):
        return ""
    if not places:
        return "no node and no vendor is configured"
    return "; ".join(f"{place.id}: {place.health.reason or 'not seen yet'}" for place in places)


def _device(devices: Sequence[Device]) -> Device:
    return Device(
        kind="cuda" if any(device.kind == "cuda" for device in devices) else "cpu",
        name=", ".join(_counted(sorted(device.name for device in devices))),
        total_bytes=sum(device.total_bytes for device in devices),
        used_bytes=sum(device.used_bytes for device in devices),
        reserved_bytes=sum(device.reserved_bytes for device in devices),
        foreign_bytes=sum(device.foreign_bytes for device in devices),
    )


def _counted(names: Sequence[str]) -> list[str]:
    """ "H200", "2 x RTX 4090" of sorted names."""
    counts = [(name, len(list(same))) for name, same in groupby(names)]
    return [name if count == 1 else f"{count} x {name}" for name, count in counts]


def _models(statuses: Sequence[ModelStatus]) -> list[ModelStatus]:
    groups: dict[tuple[ModelId, str], list[ModelStatus]] = {}
    for status in statuses:
        groups.setdefault((status.model.id, status.model.modality), []).append(status)
    return [_together(group) for group in groups.values()]


def _together(group: Sequence[ModelStatus]) -> ModelStatus:
    """One model's queues on several nodes as one queue: what adds up is added, of ages the one that matters is taken."""
    if len(group) == 1:
        return group[0]
    stepped = [each.last_step_age_s for each in group if each.last_step_age_s > 0]  # 0: not yet
    return ModelStatus(
        model=_best([each.model for each in group]),
        waiting=sum(each.waiting for each in group),
        waiting_limit=sum(each.waiting_limit for each in group),
        running=sum(each.running for each in group),
        last_batch=sum(each.last_batch for each in group),
        max_batch=sum(each.max_batch for each in group),
        steps_per_s=sum(each.steps_per_s for each in group),
        units_per_s=sum(each.units_per_s for each in group),
        device_seconds=sum(each.device_seconds for each in group),
        last_step_age_s=min(stepped, default=0.0),
        oldest_wait_s=max(each.oldest_wait_s for each in group),
        succeeded=sum(each.succeeded for each in group),
        failed=sum(each.failed for each in group),
        cancelled=sum(each.cancelled for each in group),
    )


def _best(models: Sequence[Model]) -> Model:
    """The model in the best state that one of its places has it in; the memory is all of them together."""
    best = min(models, key=lambda model: _BEST_FIRST.index(model.state))
    return replace(
        best,
        is_default=any(model.is_default for model in models),
        memory_bytes=sum(model.memory_bytes for model in models),
    )
