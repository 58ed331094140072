"""Models, estimates and the status of a node as messages and back."""

from collections.abc import Mapping
from typing import Final

from protos.codec.usage import usage_from, usage_message
from protos.fabric.node.v1 import node_pb2 as pb
from protos.types import Device, Estimate, Modality, Model, ModelId, ModelState, ModelStatus, NodeId, NodeStatus

_MODALITY: Final[Mapping[Modality, pb.Modality]] = {
    Modality.TEXT: pb.MODALITY_TEXT,
    Modality.IMAGE: pb.MODALITY_IMAGE,
    Modality.AUDIO: pb.MODALITY_AUDIO,
    Modality.EMBEDDING: pb.MODALITY_EMBEDDING,
}
_MODALITY_FROM: Final = {number: modality for modality, number in _MODALITY.items()}
_STATE: Final[Mapping[ModelState, pb.ModelState]] = {
    ModelState.UNLOADED: pb.MODEL_STATE_UNLOADED,
    ModelState.LOADING: pb.MODEL_STATE_LOADING,
    ModelState.READY: pb.MODEL_STATE_READY,
    ModelState.FAILED: pb.MODEL_STATE_FAILED,
}
_STATE_FROM: Final = {number: state for state, number in _STATE.items()}


def estimate_message(estimate: Estimate) -> pb.EstimateReply:
    return pb.EstimateReply(
        model=estimate.model,
        usage=usage_message(estimate.usage),
        queue_s=estimate.queue_s,
        load_s=estimate.load_s,
        run_s=estimate.run_s,
        total_s=estimate.total_s,
        fits_memory=estimate.fits_memory,
        would_evict=estimate.would_evict,
    )


def estimate_from(message: pb.EstimateReply) -> Estimate:
    return Estimate(
        model=ModelId(message.model),
        usage=usage_from(message.usage),
        queue_s=message.queue_s,
        load_s=message.load_s,
        run_s=message.run_s,
        total_s=message.total_s,
        fits_memory=message.fits_memory,
        would_evict=tuple(ModelId(model) for model in message.would_evict),
    )


def model_message(model: Model) -> pb.Model:
    return pb.Model(
        id=model.id,
        modality=_MODALITY[model.modality],
        state=_STATE[model.state],
        is_default=model.is_default,
        memory_bytes=model.memory_bytes,
        error=model.error,
        context_tokens=model.context_tokens,
        engine=model.engine,
    )


def model_from(message: pb.Model) -> Model:
    return Model(
        id=ModelId(message.id),
        modality=_MODALITY_FROM[message.modality],
        state=_STATE_FROM[message.state],
        is_default=message.is_default,
        memory_bytes=message.memory_bytes,
        error=message.error,
        context_tokens=message.context_tokens,
        engine=message.engine,
    )


def status_message(status: NodeStatus) -> pb.Status:
    device = status.device
    return pb.Status(
        node_id=status.node_id,
        device=pb.Device(
            kind=device.kind,
            name=device.name,
            total_bytes=device.total_bytes,
            used_bytes=device.used_bytes,
            reserved_bytes=device.reserved_bytes,
            foreign_bytes=device.foreign_bytes,
        ),
        models=[_model_status_message(model) for model in status.models],
        ready=status.ready,
        reason=status.reason,
        draining=status.draining,
        uptime_s=status.uptime_s,
        version=status.version,
    )


def status_from(message: pb.Status) -> NodeStatus:
    device = message.device
    return NodeStatus(
        node_id=NodeId(message.node_id),
        device=Device(
            kind="cuda" if device.kind == "cuda" else "cpu",
            name=device.name,
            total_bytes=device.total_bytes,
            used_bytes=device.used_bytes,
            reserved_bytes=device.reserved_bytes,
            foreign_bytes=device.foreign_bytes,
        ),
        models=tuple(_model_status_from(model) for model in message.models),
        ready=message.ready,
        reason=message.reason,
        draining=message.draining,
        uptime_s=message.uptime_s,
        version=message.version,
    )


def _model_status_message(status: ModelStatus) -> pb.ModelStatus:
    return pb.ModelStatus(
        model=model_message(status.model),
        waiting=status.waiting,
        waiting_limit=status.waiting_limit,
        running=status.running,
        last_batch=status.last_batch,
        max_batch=status.max_batch,
        steps_per_s=status.steps_per_s,
        units_per_s=status.units_per_s,
        device_seconds=status.device_seconds,
        last_step_age_s=status.last_step_age_s,
        oldest_wait_s=status.oldest_wait_s,
        succeeded=status.succeeded,
        failed=status.failed,
        cancelled=status.cancelled,
    )


def _model_status_from(message: pb.ModelStatus) -> ModelStatus:
    return ModelStatus(
        model=model_from(message.model),
        waiting=message.waiting,
        waiting_limit=message.waiting_limit,
        running=message.running,
        last_batch=message.last_batch,
        max_batch=message.max_batch,
        steps_per_s=message.steps_per_s,
        units_per_s=message.units_per_s,
        device_seconds=message.device_seconds,
        last_step_age_s=message.last_step_age_s,
        oldest_wait_s=message.oldest_wait_s,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
    )
