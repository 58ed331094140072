"""What a node's status says of it as a place for tasks. Pure.

Not about how the status comes (node.py).
"""

from protos.types import ModelId, ModelState, NodeStatus
from providers.base import Health, Offer, Snapshot


def served(snapshot: Snapshot) -> frozenset[ModelId]:
    return frozenset(offer.model for offer in snapshot.offers)


def offers_of(status: NodeStatus) -> tuple[Offer, ...]:
    """What the node serves. A model that failed to load is among it: the node says why when it is asked, and tries again."""
    return tuple(
        Offer(
            model=model.model.id,
            modality=model.model.modality,
            is_default=model.model.is_default,
            context_tokens=model.model.context_tokens,
            max_batch=max(1, model.max_batch),
            waiting=model.waiting,
            running=model.running,
        )
        for model in status.models
    )


def health_of(status: NodeStatus | None, lost: str, seen_s: float) -> Health:
    if status is None or lost:
        return Health(status="unavailable", reason=lost, seen_s=seen_s)
    if status.draining or not status.ready:
        return Health(status="unavailable", reason=status.reason or "draining", seen_s=seen_s)
    failed = [
        f"{model.model.id}: {model.model.error}" for model in status.models if model.model.state is ModelState.FAILED
    ]
    if failed:
        return Health(status="degraded", reason="; ".join(failed), seen_s=seen_s)
    return Health(status="healthy", seen_s=seen_s)
