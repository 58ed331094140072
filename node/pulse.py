"""How one model is: its numbers as a status tells them, and whether its work moves.

Not about how the numbers are counted (metrics.py) nor about the node as a whole (service.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from node.crowd import Crowd
from node.metrics import Meter
from node.scheduler.loop import UnderWay
from protos.types import ModelState, ModelStatus


@dataclass(frozen=True, slots=True)
class Pulse:
    """What readiness is judged by, of one model."""

    status: ModelStatus
    is_awaited: bool  # it is to be loaded at the start, and was not ready yet
    idle_s: float  # its tasks have got no step for so long; 0 without tasks that could get one


def pulse_of(crowd: Crowd, meter: Meter) -> Pulse:
    entry = crowd.entry
    steps_per_s, units_per_s = meter.rates()
    oldest = next(iter(crowd.waiting.values()), None)
    status = ModelStatus(
        model=entry.model,
        waiting=len(crowd.waiting),
        waiting_limit=entry.spec.waiting_limit,
        running=len(crowd.seated),
        last_batch=meter.last_batch,
        max_batch=entry.seats,
        steps_per_s=steps_per_s,
        units_per_s=units_per_s,
        device_seconds=meter.device_seconds,
        last_step_age_s=meter.last_step_age_s,
        oldest_wait_s=oldest.age_s if oldest is not None else 0.0,
        succeeded=meter.succeeded,
        failed=meter.failed,
        cancelled=meter.cancelled,
    )
    return Pulse(status, entry.spec.preload and not entry.was_ready, _idle_s(crowd, meter))


def _idle_s(crowd: Crowd, meter: Meter) -> float:
    """Those who wait were sent to the device in about the order in which they came: the first stands for all."""
    first = next((run for run in crowd.waiting.values() if run.is_on_device), None)
    on_device = [run for run in (first, *crowd.seated.values()) if run is not None and run.is_on_device]
    oldest_s = max((run.age_s - run.timings.load_s for run in on_device), default=0.0)
    return min(oldest_s, meter.last_step_age_s) if meter.last_step_s is not None else oldest_s


def unready_reason(pulses: Sequence[Pulse], stall_s: float, *, is_draining: bool, call: UnderWay | None) -> str:
    """Why the node should get no work; "" when it should. call: the longest that is under way on the device."""
    if is_draining:
        return "the node is draining"
    if call is not None and call.for_s > stall_s:
        return str(call)
    for pulse in pulses:
        model = pulse.status.model
        if pulse.is_awaited and model.state == ModelState.FAILED:
            return f"model {model.id!r} could not be loaded: {model.error}"
        if pulse.is_awaited:
            return f"model {model.id!r} is {model.state}"
        if pulse.idle_s > stall_s:
            tasks = pulse.status.waiting + pulse.status.running
            return f"model {model.id!r} has {tasks} tasks and made no step for {pulse.idle_s:.0f} s"
    return ""
